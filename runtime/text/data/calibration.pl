Gdy licznik osiągnie zero, demon zamyka gniazdo i usuwa swój plik blokady.
Obawiam się, że na rachunku jest błąd.
Spotkanie trwało dłużej, niż ktokolwiek planował.
Przegapiliśmy początek filmu, bo nie mogliśmy znaleźć miejsca do zaparkowania.
Nagranie jest za krótkie, aby można było je przeanalizować.
Wstaw podział strony przed tym nagłówkiem
Zmiana powiększenia kółkiem myszy działa we wszystkich widokach z wyjątkiem prezentacji pełnoekranowej.
Zmień nazwy warstw
Najpierw przetestuj mikrofon: powiedz kilka słów i sprawdź, czy zielony pasek się porusza.
Zastanawiamy się nad przeprowadzką do większego mieszkania.
Sortuj według daty zakupu
Pokaż ukryte kolumny
Moja siostra mieszka nad morzem od prawie dwóch lat.
Jeśli dwa wiersze mają ten sam klucz sortowania, ich pierwotna kolejność zostaje zachowana.
Miałeś rację co do pogody.
Zeszłej zimy sprzedałem samochód i ani razu za nim nie zatęskniłem.
Nie czekaj na mnie, dziś wieczorem wrócę późno.
Funkcja zwraca NULL, jeśli nie istnieje wpis o podanym identyfikatorze.
Proszę podać liczbę od 1 do 64.
Do zupy trzeba dodać jeszcze trochę soli.
Naciśnij Ctrl+Shift+L, aby przejść bezpośrednio do paska adresu.
Podgląd jest aktualizowany podczas pisania, więc nie trzeba naciskać żadnego przycisku.
Koncert miał się zacząć o ósmej, ale piosenkarka utknęła w korku.
Selektor kolorów zapamiętuje teraz dwanaście ostatnio użytych kolorów.
Boli mnie gardło, mam lekką gorączkę i zupełnie nie mam apetytu.
Zduplikowane zakładki są oznaczone na czerwono i można je usunąć jednym kliknięciem.
Nie podłączono żadnego skanera.
Reguły są sprawdzane w pokazanej kolejności i obowiązuje pierwsza, która pasuje.
Odbudowa indeksu dużego folderu pocztowego może potrwać kilka minut; w tym czasie wyszukiwanie działa wolniej niż zwykle.
Wtyczka "{name}" została zbudowana dla starszej wersji.
Od jak dawna pracuje pan w tej firmie?
Muzeum jest w poniedziałki zamknięte, ale otaczający je park jest zawsze otwarty.
Określ, ile rdzeni procesora może wykorzystać koder, lub wpisz "auto", aby sam o tym zdecydował.
Nigdy bym go nie rozpoznała bez brody.
Ostatnio sprawdzono %1 o %2
Narysuj krzywą odręczną
Czy śniadanie jest wliczone w cenę, jeśli wyjedziemy przed szóstą?
Domyślnie narzędzie wczytuje ustawienia z pliku ~/.config/tidyup.conf, ale za pomocą opcji --config można wskazać inny plik.
Ależ masz śliczny ogródek!
Opcja -q wyłącza wyświetlanie wszystkich komunikatów oprócz błędów krytycznych.
Kliknij kłódkę, aby dowiedzieć się, kto wystawił certyfikat.
Krytycznie niski poziom naładowania baterii myszy
Formuły zaczynają się od znaku równości i mogą odwoływać się do komórek w innych arkuszach.
Proszę, zdejmij buty, zanim wejdziesz.
O tej porze roku już o wpół do piątej jest ciemno.
Brak uprawnień do przeglądania zawartości %s
Nie można przenieść elementu "%s" do niego samego.
Zachowaj obie wersje
Jej ojciec uczył matematyki w małej wiejskiej szkole.
Podczas przeciągania przytrzymaj klawisz Alt, aby skopiować kształt, zamiast go przenosić.
Wiersz %d zawiera nieznane słowo kluczowe.
Certyfikat %1 wygasł trzy dni temu.
Edytor krzyżówek ostrzega, jeśli słowo krzyżuje się z innym na niewłaściwej literze.
Przytnij wszystkie strony do zaznaczenia
Dzięki szablonom nie trzeba wciąż od nowa wpisywać tej samej odpowiedzi.
Na niektórych klawiaturach brakuje wymaganego klawisza; w takim przypadku można przypisać inny w oknie ustawień.
Nie każdy lubi czosnek w sałatce.
Nasi tłumacze poprosili o zrzuty ekranu, dlatego prosimy o ich dołączanie do każdego zgłoszenia problemu z układem.
Czcionki, których nie można osadzić, są zastępowane najbardziej zbliżonymi spośród dostępnych w systemie.
Zmiany wprowadzone przez innych autorów pojawiają się w panelu bocznym wraz z ich komentarzami i datą zmiany.
Której książki adresowej użyć?
Nie rozpoznano odcisku palca
Lewy panel zawiera listę rozdziałów, a prawy wyświetla tekst wybranego rozdziału.
Zdjęcia są grupowane według miejsca wykonania, o ile zawierają dane o położeniu.
Za mostem proszę skręcić w lewo, a potem iść dalej, aż zobaczy pan biały kościół.
Czy mogę zapłacić kartą, czy przyjmują państwo tylko gotówkę?
Oczekiwanie na rozgrzanie drukarki...
Czy te spodnie są też dostępne w szarym kolorze?
Komentarze zaczynają się od znaku krzyżyka i ciągną się do końca wiersza.
Aby na dobre wyciszyć przypomnienie, otwórz je i usuń zaznaczenie pola wyboru obok opcji Powtarzaj.
Śmiała się, aż łzy stanęły jej w oczach.
Spotkajmy się przy fontannie kwadrans po szóstej.
Gdy kreator zakończy pracę, pojawi się prośba o wylogowanie się, aby zmiana języka mogła zacząć obowiązywać.
Moją walizkę wysłano do Lizbony, chociaż leciałem do Helsinek.
Spowolnij odtwarzanie
Na tym dysku pozostało tylko 40 MB.
Nie należy przepisywać opublikowanej rewizji, ponieważ inni mogli już oprzeć na niej swoją pracę.
Użytkownik {name} opuścił rozmowę.
Połączenie odrzucone przez %s na porcie %d
Wolisz rano herbatę czy kawę?
Zamień lewy i prawy przycisk myszy
Lupa podąża zarówno za kursorem tekstowym, jak i za wskaźnikiem myszy.
Ustaw rozmiar papieru także w menu samej drukarki, w przeciwnym razie marginesy będą nieprawidłowe.
Przed odtworzeniem filmów tego rodzaju może być konieczne zainstalowanie dodatkowych kodeków.
Wyższa wartość daje gładsze krawędzie, ale wyraźnie spowalnia renderowanie.
Czy na pewno opróżnić skrzynkę nadawczą?
Dowiązania symboliczne są kopiowane jako dowiązania, chyba że ich cel znajduje się poza katalogiem źródłowym.
Dwa urządzenia mają ten sam adres IP.
Nie można zablokować bazy danych pakietów.
Musieliśmy przekroczyć trzy granice, zanim celnicy zauważyli naszego psa.
Jeśli to pole pozostanie puste, program będzie pytać o nazwę użytkownika przy każdym połączeniu.
Poproszę pół kilo czereśni i dwie cytryny.
Ukośnik na końcu ścieżki źródłowej zapobiega utworzeniu dodatkowego poziomu katalogów w miejscu docelowym.
Przeciągnij dolną krawędź panelu, aby zmienić jego wysokość.
Zapytania trwające dłużej, niż pozwala limit, są zapisywane w pliku slow.log wraz z liczbą zwróconych wierszy.
Nigdy nie udostępniaj swojego klucza prywatnego, nawet osobom, którym ufasz.
Zmienna środowiskowa PAGER określa, który program jest używany do wyświetlania długich tekstów.
Nasz pociąg został odwołany, więc wzięliśmy taksówkę razem z pewną parą z Wiednia.
Goście mogą przeglądać udostępnione albumy, ale nie mogą dodawać ani usuwać zdjęć.
Nieoczekiwany koniec danych wejściowych w pliku config.xml
Jeśli wynik jest zadowalający, zatwierdź go klawiszem Enter; aby wrócić, naciśnij Esc.
Złamał rękę podczas jazdy na nartach, ale wszystko dobrze się goi.
Pobrano %1 z %2 wiadomości
Dodaj to słowo do słownika osobistego
Opiekun tego pakietu nie opublikował jeszcze podpisanego wydania.
Dzieci zasnęły na kanapie.
Dlaczego suwak głośności znika po podłączeniu zewnętrznej karty dźwiękowej?
Przywróć domyślne skróty
Od czwartkowego wieczoru w górach spodziewane są opady śniegu.
Winda jest nieczynna, więc pianino musi poczekać na dole.
Przed zmniejszeniem partycji upewnij się, że masz aktualną kopię swoich danych.
Kiedy byłem dzieckiem, każde lato spędzaliśmy w gospodarstwie mojego wujka.
Nieprawidłowe hasło. Proszę spróbować jeszcze raz.
Drukuj strony nieparzyste w odwrotnej kolejności
Zna trzy języki, ale jest zbyt nieśmiała, by się nimi posługiwać.
Dziękuję za piękne kwiaty, które zostawiłaś pod naszymi drzwiami.
Czy lekarz obejrzał już twoje kolano?
Skrypty pobrane z internetu działają z ograniczonymi uprawnieniami i nie mają dostępu do katalogu domowego.
Brak operandu po "%s"
Odkąd urodziło się dziecko, nie sypiam dobrze.
Uruchom polecenie jako root, ponieważ musi ono zapisać dane w sektorze rozruchowym.
Czy może mi pan powiedzieć, który autobus jedzie do starego portu?
Odbij obraz w pionie
Jeśli proces nie zareaguje w ciągu 30 sekund, zostanie do niego wysłany sygnał KILL.
Okres próbny kończy się jutro.
Mój brat i jego żona spodziewają się w maju drugiego dziecka.
Te buty są wygodne, ale kosztują za dużo.
Włączaj kolory nocne po zachodzie słońca
Tuner nasłuchuje granego dźwięku i informuje, czy struna jest nastrojona za wysoko, czy za nisko.
W taki upał powinieneś pić więcej wody.
Ich łódź naprawiano tyle razy, że mało która deska była jeszcze oryginalna.
Kod zakończenia wynosi 0, jeśli wszystkie pliki są identyczne, 1, jeśli niektóre się różnią, i 2 w razie problemów.
Bez argumentu polecenie wypisuje nazwy wszystkich działających usług i czas, jaki upłynął od ich uruchomienia.
Wszystkie hasła są przechowywane w zaszyfrowanym portfelu, który jest odblokowywany podczas logowania.
Użyj klawiszy strzałek, aby poruszać się po liście, a spacji, aby zaznaczyć pozycję.
Czarne są szachowane.
Wiadomości starsze niż podana liczba dni są co noc przenoszone do folderu archiwum.
Aplet pogody pokazuje prognozę dla maksymalnie pięciu miast, pod warunkiem że komputer jest podłączony do sieci.
Tworzenie kopii zapasowej %s zostało przerwane w połowie.
Symulator rysuje orbitę każdej planety w postaci cienkiej linii, która z czasem zanika.
Cebulę pokrój w cienkie plasterki i smaż na maśle na małym ogniu.
Gdzie kupiłaś tę zieloną parasolkę?
Pierwsza kolumna pokazuje rozmiar w kilobajtach, druga właściciela, a trzecia nazwę pliku wraz z rozszerzeniem.
Moduł jądra trzeba ponownie załadować po każdej aktualizacji oprogramowania układowego.
Zadanie zostało anulowane przez administratora.
Tabela nie ma klucza głównego.
Schowek nie zawiera obrazu.
To ustawienie dotyczy tylko nowych okien; okna już otwarte zachowują swój rozmiar.
Dla każdego kalendarza można wybrać inny kolor, aby łatwo odróżnić wydarzenia prywatne od służbowych.
Czy wszyscy uczestnicy znajdują się w tej samej strefie czasowej?
Pobieranie zostanie wznowione automatycznie.
Nikt nie wiedział, gdzie są klucze do hangaru na łodzie.
Kiedy przyszliśmy, zdążyli już zjeść przystawkę.
Podświetlaj pasujące nawiasy
Nauczyciele mogą zablokować ćwiczenie, tak aby uczniowie widzieli tylko bieżące pytanie.
Starszy pan każdego popołudnia siedzi na tej samej ławce i czyta gazetę od pierwszej do ostatniej strony.
Kto będzie karmił kota, kiedy cię nie będzie?
Wycisz ten kanał
Sparuj nowy zestaw słuchawkowy
Nie znaleziono trasy do %1.
Uważaj, talerz jest gorący.
W przyszły poniedziałek zacznie nową pracę w piekarni.
Duże załączniki są przechowywane na serwerze i pobierane dopiero przy ich otwieraniu.
Archiwum jest uszkodzone lub niekompletne.
Nie ma czego cofnąć
Ryba była świeża, wino zimne, a widok wart każdego centa.
Moja babcia piecze chleb w każdą sobotę.
Aby scalić dwa kontakty, zaznacz oba i wybierz polecenie Połącz z menu Edycja.
Nie można porównać bajt po bajcie obrazu skompresowanego z nieskompresowanym.
Zaproś gości na to wydarzenie
Odrzucić niezapisany szkic?
W lodówce zostało jeszcze trochę ciasta.
Padało tak mocno, że piwnica znalazła się pod wodą.
Stoper działa dalej, nawet gdy ekran jest zablokowany.
Farmaceuta poradził mi, żebym przyjmował tabletki po posiłkach i nie prowadził samochodu.
Przypomnij ponownie za dziesięć minut
Aby zmniejszyć szum, filtr zastępuje każdy piksel medianą jego sąsiadów.
Gdybym miała więcej czasu, nauczyłabym się grać na wiolonczeli.
Sąsiedzi znowu urządzają imprezę.
Zadzwonię do ciebie, gdy tylko weterynarz zbada psa.
