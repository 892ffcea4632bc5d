Cuando el contador llega a cero, el demonio cierra el socket y elimina su archivo de bloqueo.
Me temo que hay un error en la cuenta.
La reunión duró más de lo que nadie había previsto.
Nos perdimos el principio de la película porque no encontrábamos aparcamiento.
La grabación es demasiado corta para analizarla.
Insertar un salto de página antes de este título
El zoom con la rueda del ratón funciona en todas las vistas, excepto en la presentación a pantalla completa.
Cambiar el nombre de las capas
Pruebe primero el micrófono: diga unas palabras y observe si se mueve la barra verde.
Estamos pensando en mudarnos a un piso más grande.
Ordenar por fecha de compra
Mostrar las columnas ocultas
Mi hermana vive junto al mar desde hace casi dos años.
Si dos líneas tienen la misma clave de ordenación, se conserva su orden original.
Tenías razón sobre el tiempo.
Vendí el coche el invierno pasado y no lo he echado de menos ni una sola vez.
No me esperes, esta noche llegaré tarde.
La función devuelve NULL si no existe ninguna entrada con el identificador indicado.
Introduzca un número entre 1 y 64.
A la sopa le falta un poco de sal.
Pulse Ctrl+Mayús+L para ir directamente a la barra de direcciones.
La vista previa se actualiza mientras escribe, por lo que no es necesario pulsar ningún botón.
El concierto debía empezar a las ocho, pero la cantante estaba atrapada en un atasco.
El selector de color recuerda ahora los doce últimos colores que ha utilizado.
Me duele la garganta, tengo un poco de fiebre y nada de apetito.
Los marcadores duplicados se señalan en rojo y se pueden eliminar con un solo clic.
No hay ningún escáner conectado.
Las reglas se comprueban en el orden mostrado y prevalece la primera que coincida.
La reconstrucción del índice de una carpeta de correo grande puede tardar varios minutos, durante los cuales la búsqueda es más lenta de lo habitual.
El complemento "{name}" se compiló para una versión anterior.
¿Cuánto tiempo lleva trabajando en esta empresa?
El museo cierra los lunes, pero el parque que lo rodea está siempre abierto.
Indique cuántos núcleos del procesador puede usar el codificador o escriba "auto" para dejar que lo decida él.
Nunca lo habría reconocido sin la barba.
Última comprobación el %1 a las %2
Dibujar una curva a mano alzada
¿El desayuno está incluido si salimos antes de las seis?
De forma predeterminada, la herramienta lee su configuración de ~/.config/tidyup.conf, pero se puede indicar otro archivo con --config.
¡Qué jardincito tan bonito tienes!
La opción -q suprime toda la salida excepto los errores fatales.
Pulse el candado para saber quién emitió el certificado.
Batería del ratón casi agotada
Las fórmulas empiezan con un signo igual y pueden hacer referencia a celdas de otras hojas.
Quítate los zapatos antes de entrar, por favor.
En esta época del año ya es de noche a las cuatro y media.
No tiene permiso para ver el contenido de %s
No se puede mover "%s" dentro de sí mismo.
Conservar ambas versiones
Su padre enseñaba matemáticas en una pequeña escuela de pueblo.
Mantenga pulsada la tecla Alt mientras arrastra para copiar la forma en lugar de moverla.
La línea %d contiene una palabra clave desconocida.
El certificado de %1 caducó hace tres días.
El editor de crucigramas le avisa si una palabra cruza otra en la letra equivocada.
Recortar todas las páginas a la selección
Las plantillas le evitan tener que escribir una y otra vez la misma respuesta.
Algunos teclados carecen de la tecla necesaria; en ese caso, puede asignar otra en el diálogo de configuración.
No a todo el mundo le gusta el ajo en la ensalada.
Nuestros traductores han pedido capturas de pantalla, así que adjunte una siempre que informe de un problema de diseño.
Los tipos de letra que no se pueden incrustar se sustituyen por el más parecido que haya en el sistema.
Los cambios realizados por otros autores aparecen en la barra lateral, junto con sus comentarios y la fecha del cambio.
¿Qué libreta de direcciones se debe utilizar?
Huella dactilar no reconocida
El panel izquierdo enumera los capítulos, mientras que el derecho muestra el texto del capítulo elegido.
Las fotografías se agrupan por el lugar donde se tomaron, siempre que contengan datos de posición.
Gire a la izquierda después del puente y siga hasta que vea una iglesia blanca.
¿Puedo pagar con tarjeta o solo aceptan efectivo?
Esperando a que se caliente la impresora...
¿Tienen estos pantalones también en gris?
Los comentarios empiezan con una almohadilla y llegan hasta el final de la línea.
Para silenciar un recordatorio de forma definitiva, ábralo y desmarque la casilla situada junto a Repetir.
Se rio hasta que se le saltaron las lágrimas.
Quedemos en la fuente a las seis y cuarto.
Cuando el asistente haya terminado, se le pedirá que cierre la sesión para que el nuevo idioma surta efecto.
Enviaron mi maleta a Lisboa, aunque yo volaba a Helsinki.
Ralentizar la reproducción
Solo quedan 40 MB libres en esta unidad.
Una revisión publicada no debería reescribirse, ya que es posible que otras personas ya hayan trabajado a partir de ella.
{name} ha abandonado la conversación.
Conexión rechazada por %s en el puerto %d
¿Por la mañana prefieres té o café?
Intercambiar los botones izquierdo y derecho del ratón
La lupa sigue tanto el cursor de texto como el puntero del ratón.
Configure también el tamaño del papel en el menú de la propia impresora; de lo contrario, los márgenes serán incorrectos.
Es posible que tenga que instalar códecs adicionales para poder reproducir este tipo de vídeo.
Un valor más alto produce bordes más suaves, pero hace que la representación sea notablemente más lenta.
¿Desea realmente vaciar la bandeja de salida?
Los enlaces simbólicos se copian como enlaces, a menos que el destino esté fuera del directorio de origen.
Dos dispositivos comparten la misma dirección IP.
No se puede bloquear la base de datos de paquetes.
Tuvimos que cruzar tres fronteras antes de que los agentes de aduanas se fijaran en nuestro perro.
Si deja este campo vacío, el programa pedirá el nombre de usuario cada vez que se conecte.
Quisiera medio kilo de cerezas y dos limones, por favor.
Una barra al final del origen evita que se cree un nivel de directorio adicional en el destino.
Arrastre el borde inferior del panel para cambiar su altura.
Las consultas que superan el límite se registran en slow.log junto con el número de filas devueltas.
No comparta nunca su clave privada, ni siquiera con personas de confianza.
La variable de entorno PAGER determina qué programa se usa para mostrar los textos largos.
Cancelaron nuestro tren, así que tomamos un taxi junto con una pareja de Viena.
Los invitados pueden ver los álbumes compartidos, pero no se les permite añadir ni eliminar imágenes.
Fin inesperado de la entrada en config.xml
Cuando esté satisfecho con el resultado, confírmelo con Intro; para volver atrás, pulse Esc.
Se rompió el brazo esquiando, pero se está curando bien.
%1 de %2 mensajes descargados
Añadir esta palabra a su diccionario personal
El responsable de este paquete aún no ha publicado una versión firmada.
Los niños se han quedado dormidos en el sofá.
¿Por qué desaparece el control de volumen cuando conecto una tarjeta de sonido externa?
Restaurar los atajos predeterminados
Se espera nieve en las montañas a partir del jueves por la tarde.
El ascensor no funciona, así que el piano tiene que esperar abajo.
Antes de reducir una partición, asegúrese de tener una copia reciente de sus datos.
Cuando era niño, pasábamos todos los veranos en la granja de mi tío.
Frase de contraseña incorrecta. Vuelva a intentarlo.
Imprimir las páginas impares en orden inverso
Habla tres idiomas, pero es demasiado tímida para usarlos.
Gracias por las flores tan bonitas que nos dejaste en la puerta.
¿El médico ya te ha mirado la rodilla?
Los guiones descargados de Internet se ejecutan con permisos reducidos y no pueden acceder a su directorio personal.
Falta un operando después de "%s"
No he dormido bien desde que nació el bebé.
Ejecute la orden como root, ya que tiene que escribir en el sector de arranque.
¿Podría decirme qué autobús va al puerto viejo?
Reflejar la imagen verticalmente
Si el proceso no reacciona en 30 segundos, se le envía la señal KILL.
Su período de prueba termina mañana.
Mi hermano y su mujer esperan su segundo hijo para mayo.
Estos zapatos son cómodos, pero cuestan demasiado.
Activar los colores nocturnos tras la puesta de sol
El afinador escucha la nota que usted toca y le dice si la cuerda está demasiado alta o demasiado baja.
Deberías beber más agua con este calor.
Habían reparado su barca tantas veces que apenas quedaba una tabla original.
El estado de salida es 0 si todos los archivos son idénticos, 1 si algunos difieren y 2 en caso de problemas.
Sin argumentos, la orden muestra los nombres de todos los servicios en ejecución y el tiempo transcurrido desde que se iniciaron.
Todas las contraseñas se guardan en una cartera cifrada que se desbloquea cuando usted inicia sesión.
Utilice las teclas de dirección para recorrer la lista y la barra espaciadora para marcar una entrada.
Las negras están en jaque.
Los mensajes con más días de antigüedad que los indicados se mueven cada noche a la carpeta de archivo.
La miniaplicación del tiempo muestra el pronóstico de hasta cinco ciudades, siempre que el equipo esté en línea.
La copia de seguridad de %s se detuvo a la mitad.
El simulador dibuja la órbita de cada planeta como una línea fina que se desvanece con el tiempo.
Corte las cebollas en rodajas finas y fríalas en mantequilla a fuego lento.
¿Dónde compraste ese paraguas verde?
La primera columna muestra el tamaño en kilobytes; la segunda, el propietario, y la tercera, el nombre del archivo junto con su extensión.
El módulo del núcleo se debe volver a cargar después de cada actualización del firmware.
El administrador canceló el trabajo.
La tabla no tiene clave primaria.
El portapapeles no contiene ninguna imagen.
Este ajuste solo afecta a las ventanas nuevas; las que ya están abiertas conservan su tamaño.
Puede elegir un color distinto para cada calendario, de modo que los eventos privados y los profesionales se distingan fácilmente.
¿Están todos los participantes en la misma zona horaria?
La descarga se reanudará automáticamente.
Nadie sabía dónde estaban las llaves de la caseta de los botes.
Ya se habían comido el entrante cuando llegamos.
Resaltar los paréntesis correspondientes
Los profesores pueden bloquear el ejercicio para que los alumnos solo vean la pregunta actual.
El anciano se sienta todas las tardes en el mismo banco y lee el periódico de la primera página a la última.
¿Quién va a dar de comer al gato mientras estés fuera?
Silenciar este canal
Emparejar unos auriculares nuevos
No se ha encontrado ninguna ruta hasta %1.
Cuidado, el plato está caliente.
El próximo lunes empezará en su nuevo trabajo en la panadería.
Los adjuntos grandes se guardan en el servidor y solo se descargan cuando usted los abre.
El archivo comprimido está dañado o incompleto.
No hay nada que deshacer
El pescado estaba fresco, el vino estaba frío y la vista valía cada céntimo.
Mi abuela hace pan todos los sábados.
Para fusionar dos contactos, seleccione ambos y elija Combinar en el menú Editar.
No es posible comparar byte a byte una imagen comprimida con otra sin comprimir.
Invitar a personas a este evento
¿Descartar el borrador sin guardar?
Todavía queda un poco de tarta en la nevera.
Llovió tanto que el sótano se inundó.
El cronómetro sigue funcionando aunque la pantalla esté bloqueada.
El farmacéutico me aconsejó tomar las pastillas después de las comidas y evitar conducir.
Posponer diez minutos
Para reducir el ruido, el filtro sustituye cada píxel por la mediana de sus vecinos.
Si tuviera más tiempo, aprendería a tocar el violonchelo.
Los vecinos están otra vez de fiesta.
Te llamaré en cuanto el veterinario haya examinado al perro.
