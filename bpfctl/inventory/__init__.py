"""What the kernel holds now: programs and maps as frozen records, found by reference.

    records.py     the records
    reference.py   from { id N | pinned PATH | name NAME | tag TAG } to an open descriptor
    listing.py     records of everything, of a reference, of a descriptor
    elements.py    the elements of a map
    holders.py     pins and processes that keep a program or map alive

Import from the modules: naming one program must not cost the start-up of all of them.
"""
