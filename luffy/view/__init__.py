"""The viewer of ``eval_scripts/view.py``: what runs and results say, as one page that opens from disk or is served on loopback.

``runs.py`` reads run folders, ``results.py`` files of scored samples, ``chunks.py`` packs what a page loads when it is opened,
``page.py`` writes the page from the files in ``page/``, ``server.py`` serves it while a run goes on, ``show.py`` is the command.
"""
