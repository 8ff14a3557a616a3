"""What is declared, durable and in memory."""
