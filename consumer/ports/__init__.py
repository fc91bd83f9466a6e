"""The HTTP ports of the program: how many connections they hold, for how long, and whom they answer."""
