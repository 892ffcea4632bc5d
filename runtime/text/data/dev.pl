Hydraulik obiecał, że przyjdzie przed południem.
Wybierz obraz na ekran logowania
Wiatr był tak zimny, że po dziesięciu minutach zawróciliśmy.
Przestrzeń wymiany jest prawie wyczerpana.
Z opcją --dry-run nic nie jest usuwane; wypisywane są jedynie nazwy plików objętych operacją.
Zwiń wszystkie foldery oprócz tego
Liczby przekraczające ten limit są wyświetlane w notacji naukowej.
Próbowałeś makaronu z grzybami?
Moi rodzice poznali się na potańcówce w małym miasteczku, którego nazwy zawsze zapominam.
Na targu sprzedają świeże jajka i miód.
Odpowiedz tylko użytkownikowi {name}
Palił przez trzydzieści lat, zanim w końcu rzucił.
Moduł sprawdzania pisowni ignoruje słowa pisane wielkimi literami, o ile nie ustawiono inaczej.
Kliknij dwukrotnie przystanek na mapie, aby zobaczyć odjazdy w ciągu najbliższej godziny.
Jeśli sieć bezprzewodowa nie pojawia się na liście, wpisz jej nazwę ręcznie i wybierz używany przez nią rodzaj szyfrowania.
%1 aktualizacji jest gotowych do zainstalowania.
Zsynchronizować zakładki z %s?
Każdą zmianę w partyturze można natychmiast usłyszeć dzięki wbudowanemu syntezatorowi.
Zatrzymaj po tym rozdziale audiobooka
Zostalibyśmy dłużej, gdyby na kempingu było spokojniej.
Aby podzielić widok, wybierz kierunek, w którym okno ma zostać podzielone.
Nie wykryto piórka tabletu
Nieużywane obrazy są usuwane z pamięci podręcznej po tygodniu, aby oszczędzać miejsce na dysku.
Nie udało się zdekodować ścieżki napisów.
Plik haseł jest wczytywany jednorazowo podczas uruchamiania, więc każda późniejsza zmiana wymaga ponownego uruchomienia serwera.
Zbyt wiele nieudanych prób logowania na konto gościa
Zamknij okno, proszę, bo jest przeciąg.
Co się stanie z moimi ustawieniami po usunięciu pakietu?
Tekst można dyktować w dowolnej aplikacji przyjmującej dane z klawiatury, choć pierwsza próba może potrwać dłużej, ponieważ trzeba wczytać model mowy.
Sygnały nadchodzące podczas działania procedury obsługi są kolejkowane i dostarczane później.
Nazwa hosta nie może zawierać spacji.
Moja córka chce zostać weterynarzem.
Wzorzec jest porównywany z całą ścieżką, a nie tylko z jej ostatnią częścią.
Bolą mnie plecy, kiedy zbyt długo siedzę.
Naciśnij F9, aby ukryć panel boczny i zyskać więcej miejsca na notatki.
Zostawiłem portfel na kuchennym stole.
Planista pomija zadanie, którego poprzednie uruchomienie jeszcze trwa.
Nieprawidłowa data: miesiąc musi być z zakresu od 1 do 12
Ile kosztuje bilet na prom?
Zapytaj koleżankę z pracy, czy może przejąć popołudniową zmianę.
