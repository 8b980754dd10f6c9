"""The parts of the dashboard, one a file. They show what they are given and tell the app what was typed or chosen."""
