"""The client: a pure session machine, an asyncio pump around it, and the verbs."""
