No apague el dispositivo mientras se está escribiendo el firmware.
La profundidad máxima del árbol de directorios se puede limitar con -d; el valor 0 significa que no hay ningún límite, lo que puede ralentizar considerablemente el análisis.
El reproductor de radio retoma la última emisora cuando usted conecta los auriculares.
El formato antiguo todavía se admite para lectura, mientras que ya no es posible escribirlo.
Error de sintaxis cerca de "{token}"
¿Aceptar la invitación de %s?
Cuando llegaron los bomberos, los vecinos ya habían apagado las llamas.
¿Desea continuar donde lo dejó?
%1 fue modificado por última vez por %2.
Copiando las fotos de la cámara...
Active esta opción si utiliza un lector de pantalla o una línea braille.
Los paquetes enumerados en el archivo hold.list no se modifican durante una actualización.
No volver a preguntar para este sitio web
Se ha desactivado el Bluetooth para ahorrar energía.
Los segmentos de memoria compartida sobreviven al proceso que los creó y se deben liberar explícitamente.
¿Qué plantarías si tuvieras un balcón más grande?
Las órdenes que siguen al símbolo de tubería reciben como entrada la salida de la orden anterior.
Toque el panel táctil con dos dedos para abrir el menú contextual.
Desde la versión 4.2, el gestor de ventanas coloca los diálogos en el centro de la pantalla en la que se encuentra el puntero.
Nuestro jefe está de vacaciones hasta final de mes.
Cambiamos de tren en Lyon y tuvimos el tiempo justo para comer un bocadillo.
Mi primo, que vive en Canadá, vendrá a visitarnos en otoño.
Las contraseñas introducidas en esta página no se guardan nunca y se borran de la memoria en cuanto usted sale de ella.
Sus cartas, escritas con tinta azul en un papel muy fino, se guardan en una lata de galletas en el desván.
Si nadie ha tocado el teclado durante un rato, la pantalla se atenúa y, un minuto después, se bloquea la sesión.
Aumentar ligeramente el interlineado
Se ha guardado una captura de pantalla en el escritorio.
Solo dos de los nueve candidatos habían leído el contrato con atención.
Los espacios en los nombres de archivo se deben escapar con una barra invertida o encerrar entre comillas.
Por suerte, el jarrón no se rompió al caerse.
Las herramientas de dibujo que no están disponibles en el modo actual aparecen atenuadas.
¿Qué partición se debe formatear?
¿Quedan entradas para la función de esta noche?
Me estaba poniendo el abrigo cuando el cartero tocó el timbre.
A nuestro hijo se le cayó ayer el primer diente.
Cuando desaparece una rama remota, su copia local se conserva hasta que usted mismo la elimine.
Mostrar el segundero del reloj de pared
¿Ha llamado alguien al timbre mientras estaba en el sótano?
Avísame si necesitas ayuda con la mudanza.
La leche fría le da dolor de estómago a mi marido.
Escriba las primeras letras de un nombre y la lista se reducirá a las entradas que coincidan.
El proceso con el identificador %d no responde.
Una de las ruedas del cochecito está pinchada.
Pela las patatas mientras yo pongo la mesa.
La opción --exclude se puede indicar varias veces para omitir más de un patrón.
Recibirá un mensaje corto con un código de seis cifras, que deberá introducir en un plazo de cinco minutos.
Esta chaqueta me queda demasiado estrecha de hombros.
El servidor responde con una lista vacía cuando no se ha prestado ningún libro con el número de carné indicado.
Al eliminar un sello de la colección no se borra la imagen correspondiente.
Busco un regalo de cumpleaños para una niña de diez años.
El precio del aceite de oliva casi se ha duplicado en un año.
Prefiere caminar una hora antes que esperar diez minutos al tranvía.
El tema seleccionado requiere un controlador gráfico más reciente.
El puente está cerrado desde la inundación.
Dos columnas no pueden tener el mismo encabezado.
¿Está lejos la gasolinera más cercana?
Error al escribir el registro: no queda espacio
El boletín necesita al menos un destinatario.
Pulse Ctrl+Z tantas veces como quiera; el historial se remonta al momento en que se abrió el documento.
Siempre lleva una libreta en el bolsillo de la chaqueta.
Un informe de fallo contiene el estado del programa en el momento del fallo, pero ningún documento personal.
Las filas cuya clave aparece en ambas tablas se combinan; todas las demás se descartan sin previo aviso.
Hemos reservado una mesa para cuatro a nombre de Keller.
Te toca a ti secar los platos, no a mí.
Mover esta pestaña a la otra pantalla
¿Por qué no me dijiste que eras alérgico a los frutos secos?
Volver a cargar la página sin imágenes
Si se marca esta casilla, las notas al pie se vuelven a numerar en cada página.
Nunca he estado tan cansado como después de aquel turno de noche.
El casero ha accedido a hacer reparar la calefacción antes del invierno.
El camarero nos trajo el postre equivocado, pero estaba delicioso.
La niebla se disipó hacia las once y de repente pudimos ver todo el valle.
Introduzca la dirección exactamente como aparece en la factura, incluido el país.
Eliminar el zumbido
Alinear estas etiquetas a la derecha
Solo se puede ejecutar una instancia a la vez.
Para poder leer más adelante el mensaje cifrado, añádase a la lista de destinatarios antes de enviarlo.
Firma verificada, pero la clave no es de confianza
La batería de pruebas crea sus archivos temporales en /var/tmp y los elimina aunque falle alguna de las pruebas.
La enfermera le dijo que el horario de visitas había terminado.
Los errores que los desarrolladores no pueden reproducir se cierran al cabo de noventa días.
Seleccione las palabras que quiere practicar y decida con qué frecuencia debe aparecer cada una.
Todas las postales se han marcado como leídas.
El nivel de compresión 9 produce los archivos comprimidos más pequeños; el nivel 1 es el más rápido.
Tiempo de espera agotado al contactar con el servidor de hora
Después de la operación tuvo que aprender a andar de nuevo, pero en medio año ya estaba otra vez en la pista de tenis.
¿Cómo puedo averiguar qué aplicación impide que el disco deje de girar?
La variable está vacía, a menos que el guion haya sido llamado por otro guion.
No puede aparcar aquí, esta plaza está reservada para los residentes.
Los gemelos se parecen, pero sus caracteres no podrían ser más distintos.
Las primeras manzanas estarán maduras en agosto.
Van a construir un parque infantil detrás de la biblioteca.
No se puede crear el directorio "%s": cuota de disco superada
¿Ha estado accesible el equipo remoto desde que se cambiaron las reglas del cortafuegos?
La regla situada encima del texto muestra las tabulaciones del párrafo actual.
En el mapa estelar, los objetos más brillantes se dibujan como puntos más grandes.
Otro programa ya está utilizando la cámara web
Su cuenta se bloqueará en %d minutos.
Opción '%s' desconocida; pruebe con --help
Exportar la partitura de piano como PDF
Los efectos de sonido se desactivan durante una llamada para no molestar a la persona que está al otro lado.
El conversor de monedas descarga los tipos de cambio una vez al día y señala los que tienen más de una semana.
Como norma general, no debería editar este archivo a mano, ya que se sobrescribe cada vez que se ejecuta la herramienta de configuración.
Repetir cada dos semanas
Ajustar el dibujo al ancho de la página
El canal no contiene artículos nuevos.
Ocultar las tareas terminadas la semana pasada
Ambos programas entienden el mismo protocolo, pero solo uno de ellos puede transferir archivos de más de 4 GB.
Una tormenta derribó el gran roble que había delante del ayuntamiento.
¿Le importaría sujetarme la puerta?
Necesito una cita con el dentista antes de volar a Roma.
Normalmente voy al trabajo en bicicleta, excepto cuando hay hielo.
No se ha podido leer el código de barras.
La plantilla letter.ott está protegida contra escritura.
El asistente le guía a través de cuatro pasos: idioma, teclado, particiones del disco y cuenta de usuario.
Gire la molécula con el botón derecho del ratón y pulse la tecla más para ampliarla.
Si la impresora solo imprime hojas en blanco, compruebe si se ha retirado la cinta protectora del cartucho.
Un contorno discontinuo significa que el objeto está bloqueado y no se puede seleccionar con el ratón.
La partida se guardó en la ranura 3.
Los colores del gráfico siguen el tema actual, pero puede cambiar cada uno de ellos por separado.
