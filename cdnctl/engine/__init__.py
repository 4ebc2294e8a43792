"""The loop that joins steering, defence and the data path: frames out, commands in, a journal of both."""
