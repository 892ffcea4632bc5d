El fontanero prometió venir antes del mediodía.
Elegir una imagen para la pantalla de inicio de sesión
El viento era tan frío que volvimos a los diez minutos.
El espacio de intercambio está casi agotado.
Con --dry-run no se elimina nada; solo se muestran los nombres de los archivos afectados.
Contraer todas las carpetas excepto esta
Los números superiores a este límite se muestran en notación científica.
¿Has probado la pasta con setas?
Mis padres se conocieron en un baile en un pueblo cuyo nombre siempre olvido.
En el mercado venden huevos frescos y miel.
Responder solo a {name}
Llevaba treinta años fumando cuando por fin lo dejó.
El corrector ortográfico ignora las palabras en mayúsculas, a menos que usted indique lo contrario.
Haga doble clic en una estación del mapa para ver las salidas de la próxima hora.
Si la red inalámbrica no aparece en la lista, escriba su nombre a mano y seleccione el tipo de cifrado que utiliza.
Hay %1 actualizaciones listas para instalarse.
¿Sincronizar los marcadores con %s?
Cada cambio en la partitura se puede escuchar de inmediato con el sintetizador integrado.
Detener tras este capítulo de audio
Nos habríamos quedado más tiempo si el camping hubiera sido más tranquilo.
Para dividir la vista, elija la dirección en la que se debe dividir la ventana.
Lápiz de la tableta no detectado
Las imágenes sin usar se eliminan de la caché al cabo de una semana para ahorrar espacio en el disco.
No se ha podido decodificar la pista de subtítulos.
El archivo de contraseñas se lee una sola vez al arrancar, por lo que cualquier cambio posterior requiere reiniciar el servidor.
Demasiados intentos fallidos en la cuenta de invitado
Cierra la ventana, por favor, que hay corriente.
¿Qué ocurre con mi configuración cuando elimino el paquete?
Puede dictar texto en cualquier aplicación que acepte entrada de teclado, aunque el primer intento puede ser lento porque hay que cargar el modelo de voz.
Las señales que llegan mientras se ejecuta un manejador se ponen en cola y se entregan más tarde.
El nombre del equipo no debe contener espacios.
Mi hija quiere ser veterinaria.
El patrón se compara con la ruta completa, no solo con su última parte.
Me duele la espalda cuando paso demasiado tiempo sentado.
Pulse F9 para ocultar la barra lateral y ganar espacio para sus notas.
Olvidé la cartera en la mesa de la cocina.
El planificador omite una tarea cuya ejecución anterior todavía está en curso.
Fecha no válida: el mes debe estar entre 1 y 12
¿Cuánto cuesta un billete para el ferri?
Pregúntale a tu compañera si puede hacer el turno de tarde.
