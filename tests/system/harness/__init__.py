"""Starts the real daemon and real peers in directories of their own, and talks to them from outside.

Nothing in here sleeps for a fixed time in the hope that something has happened: `wait.until` asks for a condition with
a deadline. Every process is ended by its id, by the test that started it.
"""
