"""The dashboard in a terminal; `app.run_tui` starts it. Only this package imports Textual."""
