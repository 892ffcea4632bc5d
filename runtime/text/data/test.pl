Nie wyłączaj urządzenia podczas zapisywania oprogramowania układowego.
Maksymalną głębokość drzewa katalogów można ograniczyć za pomocą opcji -d; wartość 0 oznacza całkowity brak ograniczeń, co może znacznie spowolnić skanowanie.
Odtwarzacz radiowy wznawia odtwarzanie ostatniej stacji po podłączeniu słuchawek.
Stary format jest nadal obsługiwany przy odczycie, natomiast zapis w nim nie jest już możliwy.
Błąd składni w pobliżu "{token}"
Przyjąć zaproszenie od użytkownika %s?
Zanim przyjechała straż pożarna, sąsiedzi zdążyli ugasić płomienie.
Czy chcesz kontynuować od miejsca, w którym przerwano pracę?
Element %1 był ostatnio edytowany przez %2.
Kopiowanie zdjęć z aparatu...
Włącz tę opcję, jeśli używasz czytnika ekranu lub monitora brajlowskiego.
Pakiety wymienione w pliku hold.list pozostają bez zmian podczas aktualizacji.
Nie pytaj ponownie w przypadku tej witryny
Wyłączono Bluetooth w celu oszczędzania energii.
Segmenty pamięci współdzielonej istnieją dłużej niż proces, który je utworzył, i trzeba je jawnie zwolnić.
Co byś posadziła, gdybyś miała większy balkon?
Polecenia następujące po symbolu potoku otrzymują na wejściu dane wyjściowe poprzedniego polecenia.
Stuknij touchpad dwoma palcami, aby otworzyć menu kontekstowe.
Od wersji 4.2 menedżer okien umieszcza okna dialogowe na środku ekranu, na którym znajduje się wskaźnik.
Nasz szef jest na urlopie do końca miesiąca.
Przesiedliśmy się w Lyonie i mieliśmy akurat tyle czasu, żeby zjeść kanapkę.
Mój kuzyn, który mieszka w Kanadzie, przyjedzie do nas jesienią w odwiedziny.
Hasła wpisane na tej stronie nigdy nie są zapisywane, a po jej opuszczeniu są natychmiast usuwane z pamięci.
Jej listy, napisane niebieskim atramentem na bardzo cienkim papierze, leżą w puszce po herbatnikach na strychu.
Jeśli przez pewien czas nikt nie dotknie klawiatury, ekran przygasa, a minutę później sesja zostaje zablokowana.
Nieznacznie zwiększ odstęp między wierszami
Zrzut ekranu został zapisany na pulpicie.
Tylko dwóch z dziewięciu kandydatów uważnie przeczytało umowę.
Spacje w nazwach plików należy poprzedzać odwrotnym ukośnikiem lub ujmować w cudzysłów.
Na szczęście wazon się nie stłukł, kiedy spadł.
Narzędzia rysowania niedostępne w bieżącym trybie są wyszarzone.
Którą partycję sformatować?
Czy są jeszcze wolne miejsca na dzisiejsze przedstawienie?
Właśnie zakładałem płaszcz, kiedy listonosz zadzwonił do drzwi.
Naszemu synowi wypadł wczoraj pierwszy ząb.
Gdy gałąź zdalna zniknie, jej lokalna kopia pozostanie do czasu ręcznego usunięcia.
Pokaż wskazówkę sekundową zegara ściennego
Czy ktoś dzwonił do drzwi, kiedy byłem w piwnicy?
Daj mi znać, jeśli będziesz potrzebować pomocy przy przeprowadzce.
Po zimnym mleku mojego męża boli brzuch.
Wpisz pierwsze litery nazwy, a lista zawęzi się do pasujących wpisów.
Proces o identyfikatorze %d nie odpowiada.
Z jednego koła wózka dziecięcego zeszło powietrze.
Obierz ziemniaki, a ja w tym czasie nakryję do stołu.
Opcję --exclude można podać wielokrotnie, aby pominąć więcej niż jeden wzorzec.
Otrzymasz wiadomość SMS z sześciocyfrowym kodem, który należy wpisać w ciągu pięciu minut.
Ta kurtka jest za ciasna w ramionach.
Serwer odpowiada pustą listą, jeśli na podany numer karty nie wypożyczono żadnej książki.
Usunięcie znaczka z kolekcji nie powoduje usunięcia powiązanego z nim obrazu.
Szukam prezentu urodzinowego dla dziesięcioletniej dziewczynki.
Cena oliwy z oliwek w ciągu roku prawie się podwoiła.
Woli iść godzinę pieszo niż czekać dziesięć minut na tramwaj.
Wybrany motyw wymaga nowszego sterownika karty graficznej.
Most jest zamknięty od czasu powodzi.
Dwie kolumny nie mogą mieć tego samego nagłówka.
Czy daleko stąd do najbliższej stacji benzynowej?
Nie udało się zapisać dziennika: brak wolnego miejsca
Biuletyn musi mieć co najmniej jednego odbiorcę.
Naciśnij Ctrl+Z dowolną liczbę razy; historia sięga aż do chwili otwarcia dokumentu.
Zawsze nosi notes w kieszeni marynarki.
Raport o awarii zawiera stan programu w chwili awarii, ale nie zawiera żadnych osobistych dokumentów.
Wiersze, których klucz występuje w obu tabelach, są łączone; wszystkie pozostałe są pomijane bez ostrzeżenia.
Zarezerwowaliśmy stolik dla czterech osób na nazwisko Keller.
Twoja kolej na wycieranie naczyń, nie moja.
Przenieś tę kartę na drugi ekran
Dlaczego mi nie powiedziałeś, że masz alergię na orzechy?
Wczytaj stronę ponownie bez obrazów
Jeśli to pole jest zaznaczone, przypisy są numerowane od nowa na każdej stronie.
Nigdy nie byłam tak zmęczona jak po tej nocnej zmianie.
Właściciel mieszkania zgodził się zlecić naprawę ogrzewania przed zimą.
Kelner przyniósł nam nie ten deser, ale i tak był pyszny.
Około jedenastej mgła się podniosła i nagle zobaczyliśmy całą dolinę.
Wprowadź adres dokładnie tak, jak widnieje na fakturze, łącznie z krajem.
Usuń przydźwięk
Wyrównaj te etykiety do prawej
W danej chwili może działać tylko jedna instancja.
Aby móc później odczytać zaszyfrowaną wiadomość, przed jej wysłaniem dodaj siebie do listy odbiorców.
Podpis zweryfikowany, ale klucz nie jest zaufany
Zestaw testów tworzy pliki tymczasowe w katalogu /var/tmp i usuwa je nawet wtedy, gdy któryś z testów się nie powiedzie.
Pielęgniarka powiedziała jej, że godziny odwiedzin się skończyły.
Błędy, których programiści nie mogą odtworzyć, są zamykane po dziewięćdziesięciu dniach.
Wybierz słowa, które chcesz ćwiczyć, i określ, jak często każde z nich ma się pojawiać.
Wszystkie pocztówki oznaczono jako przeczytane.
Poziom kompresji 9 daje najmniejsze archiwa; poziom 1 jest najszybszy.
Przekroczono czas oczekiwania na połączenie z serwerem czasu
Po operacji musiała od nowa uczyć się chodzić, ale już po pół roku była z powrotem na korcie tenisowym.
Jak się dowiedzieć, która aplikacja nie pozwala dyskowi się zatrzymać?
Zmienna jest pusta, chyba że skrypt został wywołany przez inny skrypt.
Nie może pan tu parkować; to miejsce jest zarezerwowane dla mieszkańców.
Bliźnięta są do siebie podobne z wyglądu, ale ich charaktery nie mogłyby się bardziej różnić.
Pierwsze jabłka dojrzeją w sierpniu.
Za biblioteką mają wybudować plac zabaw.
Nie można utworzyć katalogu "%s": przekroczono limit dyskowy
Czy zdalny host był osiągalny od czasu zmiany reguł zapory sieciowej?
Linijka nad tekstem pokazuje tabulatory bieżącego akapitu.
Na mapie nieba jaśniejsze obiekty są rysowane jako większe kropki.
Kamera internetowa jest już używana przez inny program
Konto zostanie zablokowane za %d minut.
Nieznana opcja '%s'; spróbuj użyć --help
Eksportuj partyturę fortepianową jako PDF
Efekty dźwiękowe są wyłączane podczas rozmowy, aby nie przeszkadzały osobie po drugiej stronie.
Przelicznik walut pobiera kursy wymiany raz dziennie i oznacza te, które mają ponad tydzień.
Zasadniczo nie należy edytować tego pliku ręcznie, ponieważ jest on nadpisywany przy każdym uruchomieniu narzędzia konfiguracyjnego.
Powtarzaj co dwa tygodnie
Dopasuj rysunek do szerokości strony
Kanał nie zawiera nowych artykułów.
Ukryj zadania ukończone w zeszłym tygodniu
Oba programy obsługują ten sam protokół, ale tylko jeden z nich potrafi przesyłać pliki większe niż 4 GB.
Wichura powaliła duży dąb przed ratuszem.
Czy mógłby mi pan przytrzymać drzwi?
Muszę umówić się na wizytę u dentysty jeszcze przed wylotem do Rzymu.
Zwykle jeżdżę do pracy rowerem, chyba że jest ślisko.
Nie udało się odczytać kodu kreskowego.
Szablon letter.ott jest zabezpieczony przed zapisem.
Asystent prowadzi przez cztery kroki: język, klawiatura, podział dysku i konto użytkownika.
Obróć cząsteczkę prawym przyciskiem myszy i naciśnij klawisz plus, aby ją powiększyć.
Jeśli drukarka drukuje tylko puste kartki, sprawdź, czy z wkładu usunięto taśmę ochronną.
Przerywany kontur oznacza, że obiekt jest zablokowany i nie można go zaznaczyć myszą.
Gra została zapisana w slocie 3.
Kolory wykresu są zgodne z bieżącym motywem, ale każdy z nich można zmienić osobno.
