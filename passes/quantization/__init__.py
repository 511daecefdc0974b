"""How number formats are chosen: ranges, SmoothQuant, GPTQ, 16-bit inputs."""
