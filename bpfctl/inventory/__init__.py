"""What the kernel holds now: programs and maps as frozen records, found by reference.

    records.py     the records
    reference.py   from { id N | pinned PATH | name NAME | tag TAG } to an open descriptor
    listing.py     records of everything, of a reference, of a descriptor
    elements.py    the elements of a map, one at a time, as bytes
    maptypes.py    what user space may do with a map, by its type
    batch.py       elements in blocks, by batch system calls where the map has them
    typed.py       keys and values by the types of the program's BTF
    textforms.py   elements from NDJSON, JSON and CSV; transfer.py: into a map, all or none
    savefile.py    maps in a file: the format; saving.py: what goes into it
    compare.py     differences of maps, copies; variables.py: global variables of loaded programs
    holders.py     pins and processes that keep a program or map alive

Import from the modules: naming one program must not cost the start-up of all of them.
"""
