"""Requests per second and latency of chat servers under load, side by side in one run.

    burgess export STUDY/ARM/seed-0/model --to EXPORT
    burgess serve --model STUDY/ARM/seed-0/model --port 8080
    transformers serve --host 127.0.0.1 --port 8081            (transformers 5.24, fastapi, uvicorn)
    serve_load.py DATA/jpeg/bench/mme/*.parquet burgess=http://127.0.0.1:8080/v1 transformers=http://127.0.0.1:8081/v1@EXPORT

Each server answers the same questions about the same images (each image once in a run), greedily, by turns: for each number of requests at a time
(`--concurrency`) first one server, then the other, `--rounds` times. An optional `@MODEL` is the `model` of requests.
"""

import argparse
import asyncio
import base64
import statistics
import time

import pyarrow.parquet
from openai import AsyncOpenAI

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data")
parser.add_argument("servers", nargs="+")
parser.add_argument("--requests", type=int, default=48)
parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
parser.add_argument("--max-tokens", type=int, default=16)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--question", help="ask this about each image, instead of the questions of the file")
args = parser.parse_args()

# Each image once, so that no server answers a second question from what it kept of the image.
rows = list({row["image"]["bytes"]: row for row in pyarrow.parquet.read_table(args.data).to_pylist()}.values())


async def measure(client: AsyncOpenAI, model: str, at_once: int, first: int) -> tuple[float, list[float], int]:
    gate, latencies, tokens = asyncio.Semaphore(at_once), [], 0

    async def ask(row: dict) -> None:
        nonlocal tokens
        url = f"data:image/jpeg;base64,{base64.b64encode(row['image']['bytes']).decode()}"
        text = args.question or row["question"]
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": text}]
        async with gate:
            start = time.perf_counter()
            reply = await client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": content}], temperature=0, max_tokens=args.max_tokens
            )
            latencies.append(time.perf_counter() - start)
            tokens += reply.usage.completion_tokens if reply.usage else 0

    start = time.perf_counter()
    await asyncio.gather(*(ask(rows[(first + i) % len(rows)]) for i in range(args.requests)))
    return time.perf_counter() - start, latencies, tokens


async def main() -> None:
    clients = []
    for server in args.servers:
        name, rest = server.split("=", 1)
        url, _, model = rest.partition("@")
        client = AsyncOpenAI(base_url=url, api_key="none", timeout=600)
        clients.append((name, client, model or (await client.models.list()).data[0].id))
    # Also the first questions, which load models.
    for _, client, model in clients:
        await client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}], max_tokens=1)
    taken = 0
    print(f"{'at once':>7}  {'server':<14} {'requests/s':>10} {'tokens/s':>9} {'median s':>9} {'p95 s':>8}   of {args.rounds} rounds")
    for at_once in args.concurrency:
        seen = {name: ([], [], 0, 0.0) for name, _, _ in clients}
        for _ in range(args.rounds):
            for name, client, model in clients:
                seconds, latencies, tokens = await measure(client, model, at_once, taken)
                rates, all_latencies, all_tokens, all_seconds = seen[name]
                rates.append(args.requests / seconds)
                seen[name] = (rates, all_latencies + latencies, all_tokens + tokens, all_seconds + seconds)
            taken += args.requests
        for name, (rates, latencies, tokens, seconds) in seen.items():
            latencies.sort()
            p95 = latencies[min(len(latencies) - 1, int(0.95 * len(latencies)))]
            median = statistics.median(latencies)
            print(f"{at_once:>7}  {name:<14} {statistics.median(rates):>10.2f} {tokens / seconds:>9.1f} {median:>9.3f} {p95:>8.3f}")


asyncio.run(main())
