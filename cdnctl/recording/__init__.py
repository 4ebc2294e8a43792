"""Recordings: frames in a file, or in memory, from which any moment can be shown again.

    delta      what differs between two trees        player     plays a tape: time, pause, speed, seek
    codec      frames into packed blocks, and back   chapters   where something happened
    tape       frames by number and by time          redaction  names and addresses replaced
    writer     a tape into a file                    reader     and out of it
    past       the last minutes, in memory

A frame is turned into the tree that MessagePack carries and packed as its difference from the one before,
in groups of `GROUP` frames that begin with a whole one and are compressed together: what is added to `Frame`
needs nothing here. zlib at level 6: on the frames of a real incident zstandard was no smaller at any speed
that an agent can afford (976 bytes a frame against 980 at its level 9), so it is not worth a dependency.

The file, all numbers big-endian:

    magic      8 bytes
    block      kind (1 byte), length (4), CRC-32 of the payload (4), position (8, ns since the beginning)
               and so many bytes of payload; first a header, then frames, at last an index
    trailer    where the index block begins (8), magic (8)

Each frame is flushed when it is written, so that a file that was cut off (the machine stopped) plays up to
there: without a trailer the index is made anew by reading the blocks. Readers refuse a file of a later
version; fields that they do not know are passed over.

Pure: knows the model and the errors, and neither sockets nor screens.
"""
