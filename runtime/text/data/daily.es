La enfermera le tomará primero la tensión.
¿Dónde podemos dejar las bicicletas por la noche?
Hornee el pastel en la parte inferior del horno durante cuarenta minutos.
Caminar media hora todos los días es bueno para el corazón.
Por favor, diles a tus padres que pienso a menudo en ellos.
El tren a la costa sale del andén cuatro en diez minutos.
Después de dos horas de camino llegamos a un pueblo con una sola posada.
¡Enhorabuena por haber aprobado el examen de conducir!
Nos entristeció mucho saber que vuestro vecino ha muerto.
¿Tiene esta camisa en una talla más grande?
Mi hija es alérgica a los frutos secos y al pelo de gato.
Por favor, tenga el pasaporte preparado en la frontera.
La lámpara que compré aquí la semana pasada no funciona.
Me gustaría pedir cita con el dentista para la semana que viene.
La tienda cierra a las ocho de la tarde y los sábados a las cuatro.
Se nos ha agotado, pero el lunes llega un nuevo pedido.
Esta sopa está aún más rica al segundo día.
¡Feliz cumpleaños y mis mejores deseos para el próximo año!
¿Cuánto cuestan estos zapatos?
Llévate una chaqueta de abrigo; las noches en el desierto son frías.
Siga todo recto, gire a la izquierda después del puente y el museo está a su derecha.
Si el dolor no se le pasa, vuelva el jueves.
Quisiera un kilo de tomates y dos limones.
La cola en la caja era tan larga que me volví a casa.
Bata tres huevos con un poco de leche y viértalos sobre las verduras.
Los niños han crecido mucho desde tu última visita.
Llame enseguida a una ambulancia; este hombre no respira.
Mete el pescado en la nevera hasta que lo necesites.
El último autobús ya ha salido, así que tenemos que llamar a un taxi.
Esta receta es suficiente para seis personas hambrientas.
¿Cómo llego andando desde aquí al casco antiguo?
Me ha dado poco cambio.
El ferri no sale cuando el viento es demasiado fuerte.
Puede usar miel en lugar de azúcar.
Mi maleta no ha llegado. ¿A quién puedo preguntar?
¿Dónde está la farmacia más cercana que abre los domingos?
¿Podría despertarme mañana a las seis de la mañana?
Se cayó de la bicicleta y se rompió el brazo izquierdo.
Con mis mejores deseos para ti y toda tu familia.
El mercado es más barato, pero hay que madrugar.
¿Le duele la garganta al tragar?
Necesitamos medio kilo de harina, un sobre de levadura y un poco de azúcar.
Envuélvalo, por favor; es un regalo para mi mujer.
¿Hay una habitación más barata con vistas al lago?
He encontrado un nuevo trabajo en una librería y mis compañeros me gustan mucho.
No deje que se salga la leche al hervir.
No debería conducir mientras tome este medicamento.
Solo estoy mirando, gracias.
Adjunto encontrarás dos fotos de la boda.
¿Podrías venir a nuestra casa unos días en las vacaciones de verano?
Tome una pastilla después de cada comida y beba mucha agua.
¿Dónde encuentro pan y mantequilla?
¿Quiere una bolsa o ya trae una?
La abuela siempre pone un poco de canela en su tarta de manzana.
Contéstame pronto y cuéntamelo todo sobre tu nuevo colegio.
De postre hay fruta fresca y yogur.
¿Quién va a fregar los platos esta noche?
Los niños pequeños no deberían estar demasiado tiempo al sol.
El médico dice que debo quedarme en la cama hasta que baje la fiebre.
Deje que la masa suba en un lugar cálido durante una hora más o menos.
Perdimos el vuelo porque la autopista estaba cortada.
¿Tienes todavía el libro que te presté el invierno pasado?
Nuestro hotel estaba cerca de la estación, pero por la noche había bastante ruido.
El pantalón me queda bien, pero el color no me favorece.
Dejó de fumar hace dos años y desde entonces no ha estado enfermo.
Pasamos tres días en una isla pequeña sin coches.
Mi bicicleta tiene una rueda pinchada. ¿Puede repararla para mañana?
Hoy me siento mucho mejor. Incluso he comido un poco de sopa.
El desayuno se sirve de siete a diez en la sala que está junto a la recepción.
Este abrigo es demasiado caro para mí.
Siento no haber escrito durante tanto tiempo.
El arroz está listo cuando ya no queda agua.
La carne estaba dura porque se había cocinado demasiado deprisa.
Nos mudamos al piso nuevo el mes pasado y las cajas siguen en el pasillo.
Puede devolver los productos en un plazo de dos semanas si conserva el recibo.
Me duele la cabeza desde ayer por la noche.
Nuestro viejo gato duerme todo el día y solo se levanta cuando alguien abre la nevera.
Corta el pan mientras yo pongo la mesa.
Dos billetes de ida y vuelta al castillo, por favor.
La guía hablaba despacio, así que lo entendimos casi todo.
¿Hay descuento para estudiantes?
Querida Anna: muchas gracias por el precioso paquete que llegó el martes.
Remueva la salsa despacio para que no se queme.
Lávate las manos antes de tocar al bebé.
La herida debe mantenerse limpia y seca durante una semana.
Mi abuela cumple noventa años en marzo y estamos preparando una pequeña fiesta para ella.
Caliente un poco de aceite en una sartén y fría las cebollas hasta que estén doradas.
Todavía no sé si podré ir, pero te avisaré antes del viernes.
En invierno, la carretera de montaña solo está abierta a coches con cadenas.
Duerme mal porque por la noche le duele la espalda.
¿Puedo pagar con tarjeta o solo en efectivo?
Pele las patatas y córtelas en trozos pequeños.
¿Necesita gafas para leer?
Añada la sal y la pimienta solo al final.
Mi hermano toca ahora la trompeta. Los vecinos no están contentos.
La playa estaba tan llena que apenas encontramos sitio para nuestras toallas.
Aquí llueve desde hace una semana, así que casi siempre nos quedamos en casa leyendo.
Estas manzanas son más dulces que las verdes.
Tape la olla y deje cocer todo a fuego lento.
Este año el jardín está lleno de manzanas. No sabemos qué hacer con ellas.
