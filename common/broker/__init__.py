"""RabbitMQ: the port, its adapters, the queues and what is sent through them."""
