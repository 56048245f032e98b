"""Floor 3: other people's models and reports, each library imported where it is needed."""
