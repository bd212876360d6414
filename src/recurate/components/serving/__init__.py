"""Language models behind OpenAI-compatible servers: a client, kept answers, sampling, new weights."""
