// SPDX-License-Identifier: Apache-2.0
// What a program with the unmodified openai package does: prints one JSON document, which
// openai_sdk.py reads.
const OpenAI = require('openai');

const messages = [{ role: 'user', content: 'Name three rivers of Europe.' }];

async function fails(client, body) {
  try {
    await client.chat.completions.create(body);
    return { name: 'none' };
  } catch (error) {
    return { name: error.constructor.name, status: error.status, message: error.message, param: error.param };
  }
}

async function stream(client, body) {
  const result = { text: '', chunks: 0, finish: null, usage: null };
  const chunks = await client.chat.completions.create({ ...body, stream: true, stream_options: { include_usage: true } });
  for await (const chunk of chunks) {
    result.chunks++;
    if (chunk.usage) result.usage = chunk.usage;
    for (const choice of chunk.choices) {
      result.text += choice.delta.content ?? '';
      result.finish = choice.finish_reason ?? result.finish;
    }
  }
  return result;
}

async function abort(client, body) {
  const chunks = await client.chat.completions.create({ ...body, stream: true, max_tokens: 400 });
  for await (const chunk of chunks) {
    if (chunk.choices[0]?.delta?.content) break;
  }
  return true;
}

async function main() {
  const client = new OpenAI({ maxRetries: 0 });
  const out = {};
  out.models = [];
  for await (const model of client.models.list()) out.models.push(model.id);
  const model = out.models[0];
  out.model = await client.models.retrieve(model);
  const greedy = { model, messages, temperature: 0, max_tokens: 32 };
  out.chat = await client.chat.completions.create(greedy);
  out.stream = await stream(client, greedy);
  const helper = client.chat.completions.stream(greedy);
  out.helper = { text: (await helper.finalChatCompletion()).choices[0].message.content };
  const seeded = { model, messages, temperature: 0.9, seed: 7, max_completion_tokens: 16 };
  out.seeded = [];
  for (let i = 0; i < 2; i++) out.seeded.push((await client.chat.completions.create(seeded)).choices[0].message.content);
  out.limited = await client.chat.completions.create({ ...greedy, max_tokens: 5 });
  const words = out.chat.choices[0].message.content.split(' ');
  const needle = words[Math.min(4, words.length - 1)];
  const stopped = await client.chat.completions.create({ ...greedy, stop: [needle] });
  out.stopped = { needle, text: stopped.choices[0].message.content, finish: stopped.choices[0].finish_reason };
  out.aborted = await abort(client, greedy);
  out.errors = {
    key: await fails(new OpenAI({ apiKey: 'mr-wrong', maxRetries: 0 }), greedy),
    model: await fails(client, { ...greedy, model: 'no-such-model' }),
    param: await fails(client, { ...greedy, temperature: 9 }),
  };
  console.log(JSON.stringify(out));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
