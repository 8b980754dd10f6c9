"""The parts of the dashboard, one file each. They show what they are given and tell the app what was typed or chosen."""
