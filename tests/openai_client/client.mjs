// Does with the official client what a user would, and prints what came of it as one line of JSON.
import OpenAI from "openai";

const client = new OpenAI({ apiKey: process.env.TOKEN, baseURL: process.env.BASE_URL, maxRetries: 0 });
const messages = [{ role: "user", content: "Hello?" }];
const model = process.env.MODEL;
const seen = {};

seen.chat = (await client.chat.completions.create({ model, messages })).choices[0].message.content;

seen.stream = "";
for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
  seen.stream += chunk.choices[0]?.delta?.content ?? "";
}

const tools = [{ type: "function", function: { name: "add", parameters: { type: "object" } } }];
seen.tool = (await client.chat.completions.create({ model, messages, tools })).choices[0].message.tool_calls[0].function;

seen.embedding = (await client.embeddings.create({ model: "text-embedding-3-small", input: "abc" })).data[0].embedding;

seen.models = [];
for await (const one of client.models.list()) seen.models.push(one.id);

try {
  await client.chat.completions.create({ model: "no-such-model", messages });
} catch (error) {
  seen.error = { name: error.constructor.name, status: error.status, code: error.code };
}
console.log(JSON.stringify(seen));
