"""The registry: versions, gates, decisions, aliases. Knows neither SSH nor the engine."""
