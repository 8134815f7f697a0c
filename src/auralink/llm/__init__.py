"""The model gateway: every vendor behind the OpenAI wire format, with the user's own key and one honest bill."""
