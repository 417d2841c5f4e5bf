"""Formats: records become rows, whatever form people keep their data in. Pure: no file is read here.

Reading order: names.py (the tables of names), invalid.py, parts.py and calls.py (content and tool calls of any API), chosen.py,
inside.py and spelling.py (what a job names itself), roles.py, texts.py, transcripts.py, spoken.py, numbered.py, trees.py and
messages.py (turns -> messages), columns.py, refused.py and detect.py (which columns play which role), rows.py (a record -> a row),
unread.py (what was not read), leaves.py, saying.py and suggest.py (which columns a job could name), tried.py (those that work),
advice.py (what to write instead).
"""
