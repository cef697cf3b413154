"""For the instructor: slide decks, and the rehearsal on the morning of a class."""
