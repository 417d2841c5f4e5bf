"""Formats: records become rows, whatever form people keep their data in. Pure: no file is read here.

Reading order: names.py (the tables of names), invalid.py, parts.py and calls.py (content and tool calls of any API),
texts.py and messages.py (a list of turns -> messages), detect.py (which columns play which role), rows.py (a record -> a row),
unread.py (what was not read), advice.py (what to write instead).
"""
