"""Where the rooms meet: the replica (pure), its driver, and the asyncio shells around them."""
