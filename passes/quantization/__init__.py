"""Choice of number formats: ranges, SmoothQuant, GPTQ, 16-bit inputs."""
