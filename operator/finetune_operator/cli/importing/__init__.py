"""Jobs of other tools become FineTuneJobs. Pure but for files beside the one that is read; called by import_job.

reader.py (settings that remember whether they were read), imported.py (what comes out), hf_arguments.py (the words of transformers'
trainer, which many tools share), then a module for each tool; formats.py chooses among them, text.py writes the manifest.
"""
