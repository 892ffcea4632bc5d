// transformers.js as serve.py: `node serve.mjs FOLDER DTYPE THREADS`, from the folder that has node_modules.
import { createRequire } from "node:module";
import { basename, dirname, resolve } from "node:path";
import { createInterface } from "node:readline";

const require = createRequire(resolve("package.json"));
const { AutoModelForCausalLM, AutoTokenizer, BaseStreamer, Tensor, env } = require("@huggingface/transformers");
const versions = ["@huggingface/transformers", "onnxruntime-node"].map(
  (name) => `${name} ${JSON.parse(require("node:fs").readFileSync(`node_modules/${name}/package.json`)).version}`,
);

const [path, dtype, threads] = process.argv.slice(2);
const folder = resolve(path);
env.allowRemoteModels = false;
env.localModelPath = dirname(folder);
const tokenizer = await AutoTokenizer.from_pretrained(basename(folder));
const model = await AutoModelForCausalLM.from_pretrained(basename(folder), {
  dtype,
  device: "cpu",
  session_options: { intraOpNumThreads: Number(threads), logSeverityLevel: 3 },
});
model.generation_config.eos_token_id = null;

class Times extends BaseStreamer {
  times = [];
  put() {
    this.times.push(performance.now() / 1000);
  }
  end() {}
}

console.log(JSON.stringify({ runtime: versions.join(", ") }));
for await (const line of createInterface({ input: process.stdin })) {
  const { messages, ids, limit } = JSON.parse(line);
  if (messages) {
    const text = tokenizer.apply_chat_template(messages, { tokenize: false, add_generation_prompt: true });
    console.log(JSON.stringify({ ids: tokenizer.encode(text, { add_special_tokens: false }) }));
    continue;
  }
  const started = performance.now() / 1000;
  const streamer = new Times();
  const written = await model.generate({
    input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [1, ids.length]),
    attention_mask: new Tensor("int64", new BigInt64Array(ids.length).fill(1n), [1, ids.length]),
    max_new_tokens: limit,
    do_sample: false,
    streamer,
  });
  const [, first, ...rest] = streamer.times; // the prompt is the first that is put
  const tokens = written.tolist()[0].slice(ids.length).map(Number);
  const decode_seconds = (rest.at(-1) ?? first) - first;
  console.log(JSON.stringify({ tokens, prefill_seconds: first - started, decode_seconds }));
}
