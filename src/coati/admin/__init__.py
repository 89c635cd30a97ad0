"""What operators ask of servers besides the operations of the client port: four-letter words, and what they say."""
