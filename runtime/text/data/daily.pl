Pielęgniarka najpierw zmierzy pani ciśnienie.
Gdzie możemy zostawić rowery na noc?
Piecz ciasto w dolnej części piekarnika przez czterdzieści minut.
Codzienny półgodzinny spacer jest dobry dla serca.
Powiedz, proszę, swoim rodzicom, że często o nich myślę.
Pociąg nad morze odjeżdża za dziesięć minut z peronu czwartego.
Po dwóch godzinach marszu dotarliśmy do wioski z jedną gospodą.
Gratuluję zdania egzaminu na prawo jazdy!
Bardzo zasmuciła nas wiadomość, że wasz sąsiad zmarł.
Czy jest ta koszula w większym rozmiarze?
Moja córka ma uczulenie na orzechy i na sierść kota.
Proszę przygotować paszport na granicy.
Lampa, którą kupiłem tu w zeszłym tygodniu, nie działa.
Chciałbym umówić się na wizytę u dentysty na przyszły tydzień.
Sklep zamykają o ósmej wieczorem, a w soboty o czwartej.
Wszystko wyprzedane, ale w poniedziałek będzie nowa dostawa.
Ta zupa smakuje jeszcze lepiej drugiego dnia.
Wszystkiego najlepszego z okazji urodzin i powodzenia w nadchodzącym roku!
Ile kosztują te buty?
Weź ze sobą ciepłą kurtkę; noce na pustyni są zimne.
Proszę iść prosto, za mostem skręcić w lewo, a muzeum będzie po prawej stronie.
Jeśli ból nie ustąpi, proszę przyjść ponownie w czwartek.
Poproszę kilogram pomidorów i dwie cytryny.
Kolejka do kasy była tak długa, że wróciłem do domu.
Ubij trzy jajka z odrobiną mleka i wylej na warzywa.
Dzieci bardzo urosły od twojej ostatniej wizyty.
Proszę natychmiast wezwać karetkę; ten mężczyzna nie oddycha.
Włóż rybę do lodówki, dopóki nie będzie potrzebna.
Ostatni autobus już odjechał, więc musimy wezwać taksówkę.
Ten przepis wystarczy dla sześciu głodnych osób.
Jak dojdę stąd pieszo na Stare Miasto?
Wydał mi pan za mało reszty.
Prom nie kursuje, gdy wiatr jest zbyt silny.
Zamiast cukru można użyć miodu.
Moja walizka nie dotarła. Kogo mogę o to zapytać?
Gdzie jest najbliższa apteka otwarta w niedziele?
Czy może mnie pan obudzić jutro o szóstej rano?
Spadł z roweru i złamał lewą rękę.
Z serdecznymi pozdrowieniami dla ciebie i całej twojej rodziny.
Na targu jest taniej, ale trzeba wcześnie wstać.
Czy boli panią gardło przy przełykaniu?
Potrzebujemy pół kilo mąki, paczki drożdży i trochę cukru.
Proszę to zapakować; to prezent dla mojej żony.
Czy jest tańszy pokój z widokiem na jezioro?
Znalazłem nową pracę w księgarni i bardzo lubię moich kolegów.
Nie pozwól, żeby mleko wykipiało.
Nie powinien pan prowadzić samochodu, dopóki bierze pan ten lek.
Tylko się rozglądam, dziękuję.
W załączeniu znajdziesz dwa zdjęcia z wesela.
Czy mógłbyś przyjechać do nas na kilka dni w czasie letnich wakacji?
Proszę brać jedną tabletkę po każdym posiłku i pić dużo wody.
Gdzie znajdę chleb i masło?
Czy potrzebuje pani torby, czy ma pani swoją?
Babcia zawsze dodaje do szarlotki trochę cynamonu.
Odpisz szybko i opowiedz mi wszystko o swojej nowej szkole.
Na deser są świeże owoce i jogurt.
Kto dziś wieczorem pozmywa naczynia?
Małe dzieci nie powinny zbyt długo przebywać na słońcu.
Lekarz mówi, że powinienem zostać w łóżku, aż spadnie gorączka.
Odstaw ciasto w ciepłe miejsce na około godzinę, aby wyrosło.
Spóźniliśmy się na samolot, bo autostrada była zamknięta.
Czy masz jeszcze książkę, którą pożyczyłem ci zeszłej zimy?
Nasz hotel był blisko dworca, ale w nocy było dość głośno.
Spodnie dobrze leżą, ale w tym kolorze mi nie do twarzy.
Rzucił palenie dwa lata temu i od tego czasu nie chorował.
Spędziliśmy trzy dni na małej wyspie, na której nie ma samochodów.
Mam przebitą oponę w rowerze. Czy może ją pan naprawić do jutra?
Dziś czuję się dużo lepiej. Zjadłem nawet trochę zupy.
Śniadanie jest podawane od siódmej do dziesiątej w sali obok recepcji.
Ten płaszcz jest dla mnie za drogi.
Przepraszam, że tak długo nie pisałem.
Ryż jest gotowy, gdy nie ma już wody.
Mięso było twarde, bo gotowało się zbyt szybko.
W zeszłym miesiącu przeprowadziliśmy się do nowego mieszkania, a kartony wciąż stoją w przedpokoju.
Towar można zwrócić w ciągu dwóch tygodni, jeśli zachowa się paragon.
Od wczorajszego wieczora boli mnie głowa.
Nasz stary kot śpi cały dzień i wstaje tylko wtedy, gdy ktoś otwiera lodówkę.
Pokrój chleb, a ja nakryję do stołu.
Poproszę dwa bilety do zamku i z powrotem.
Przewodniczka mówiła powoli, więc zrozumieliśmy prawie wszystko.
Czy jest zniżka dla studentów?
Droga Anno, bardzo dziękuję za piękną paczkę, która przyszła we wtorek.
Mieszaj sos powoli, żeby się nie przypalił.
Umyj ręce, zanim dotkniesz dziecka.
Rana musi być czysta i sucha przez tydzień.
Moja babcia kończy w marcu dziewięćdziesiąt lat i planujemy dla niej małe przyjęcie.
Rozgrzej trochę oleju na patelni i smaż cebulę, aż się zezłoci.
Nie wiem jeszcze, czy będę mógł przyjechać, ale dam ci znać do piątku.
Zimą droga górska jest otwarta tylko dla samochodów z łańcuchami śniegowymi.
Ona źle śpi, bo w nocy bolą ją plecy.
Czy mogę zapłacić kartą, czy tylko gotówką?
Obierz ziemniaki i pokrój je na małe kawałki.
Czy potrzebuje pan okularów do czytania?
Sól i pieprz dodaj dopiero na końcu.
Mój brat gra teraz na trąbce. Sąsiedzi nie są z tego zadowoleni.
Plaża była tak zatłoczona, że ledwo znaleźliśmy miejsce na nasze ręczniki.
Pada tu od tygodnia, więc przeważnie siedzimy w domu i czytamy.
Te jabłka są słodsze niż zielone.
Przykryj garnek i duś wszystko na małym ogniu.
W tym roku ogród jest pełen jabłek. Nie wiemy, co z nimi zrobić.
