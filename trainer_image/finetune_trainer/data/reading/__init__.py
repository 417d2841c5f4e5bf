"""Reading: which files of a place hold rows, and one function per kind of file that makes records of it.

Reading order: kinds.py (what a name says), card.py and files.py (which files), records.py (a file -> records), then one
file per kind: json_text.py (with turned.py), tables.py, columnar.py, documents.py.
"""
