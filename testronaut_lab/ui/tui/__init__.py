"""The dashboard in a terminal: `app.run_tui`. Only this package imports Textual."""
