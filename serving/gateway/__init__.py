"""The one port that people and their software reach: dialects, search and the page, in front of served models.

Nothing in here knows more of the models than the client does.
"""
