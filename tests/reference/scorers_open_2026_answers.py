"""Adversarial answers for `scorers_open_2026.py`: every form of boxes, points, numbers, words and structures that models write."""

import json
import random

THOUGHT = ["<think>{0}</think>{1}", "<think>hm</think>\n\n{1}", "{0}\n</think>{1}", "<think>{1}", "<analysis>{0}</analysis> {1}", "<THINK>{0}</THINK>{1}", "{1}<think>{0}</think>"]


def form(values, digits=None):
    return ", ".join(str(round(v, digits)) if digits is not None else repr(v) for v in values)


def boxes(doc):
    """Answers to a question whose right box is `doc["bbox"]`, in fractions of the image."""
    x1, y1, x2, y2 = box = list(doc["bbox"])
    rng = random.Random(str(box))
    mid = ((x1 + x2) / 2, (y1 + y2) / 2)
    right, short = form(box), form(box, 2)
    wrong = form([min(1, v + 0.37) for v in box], 2)
    thousand = form([round(1000 * v) for v in box])
    yield from [
        f"[{right}]", f"[{short}]", f"({short})", short, f"The box is [{short}].", f"[{short}", f"{short}]", f"[ {short} ]", f"[{short.replace(', ', ',')}]", f"[{short.replace(',', ' ,')}]",
        f"[{short.replace(', ', ' ')}]", f"[{short.replace(', ', '; ')}]", f"[{thousand}]", f"[{form([640 * v for v in box], 1)}]", f"[{form([x1, y1, x2 - x1, y2 - y1], 3)}]",
        f"[{form([x2, y2, x1, y1], 3)}]", f"[{form([y1, x1, y2, x2], 3)}]", f"[{form([x2, y1, x1, y2], 3)}]", f"[{wrong}] [{short}]", f"[{short}] [{wrong}]", f"[[{short}]]", f"[[{wrong}], [{short}]]",
        f'```json\n[{{"bbox_2d": [{short}], "label": "dog"}}]\n```', f'{{"bbox": [{short}]}}', f'{{"x1": {x1:.3f}, "y1": {y1:.3f}, "x2": {x2:.3f}, "y2": {y2:.3f}}}', f"<box>({x1:.2f},{y1:.2f}),({x2:.2f},{y2:.2f})</box>",
        f"<|box_start|>({round(1000 * x1)},{round(1000 * y1)}),({round(1000 * x2)},{round(1000 * y2)})<|box_end|>", f"<ref>dog</ref><box>[[{short}]]</box>", f"<loc0100><loc0200><loc0300><loc0400>",
        f"x1={x1:.2f} y1={y1:.2f} x2={x2:.2f} y2={y2:.2f}", f"top-left ({x1:.2f}, {y1:.2f}), bottom-right ({x2:.2f}, {y2:.2f})", "[nan, nan, nan, nan]", "[NaN, 0, 1, 1]", "[inf, 0, 1, 1]", "[-inf, 0, inf, 1]",
        "[0, 0, 0, 0]", "[0.5, 0.5, 0.5, 0.5]", "[0, 0, 1, 1]", "[0.0, 0.0, 1.0, 1.0]", "[1, 1, 0, 0]", "[-1, -1, 2, 2]", "[-0.1, -0.1, 1.1, 1.1]", "[0., 0., 1., 1.]", "[.0, .0, 1, 1]", "[.1, .2, .3, .4]", "[0,0,1,1]",
        "[00, 00, 01, 01]", "[0.0.0, 0, 1, 1]", "[1e-1, 2e-1, 5e-1, 6e-1]", "[+0.1, +0.2, 0.5, 0.6]", "[0.1, 0.2, 0.5]", "[0.1, 0.2, 0.5, 0.6, 0.7]", "[0.1, 0.2, 0.5, 0.6,]", "[0.1,, 0.2, 0.5, 0.6]", "[- 0.1, 0.2, 0.5, 0.6]",
        "[10%, 20%, 50%, 60%]", "[1/10, 1/5, 1/2, 3/5]", "[zero, zero, one, one]", "[０.１, ０.２, ０.５, ０.６]", "[٠.١, ٠.٢, ٠.٥, ٠.٦]", "【0.1, 0.2, 0.5, 0.6】", "[0.1，0.2，0.5，0.6]", "[0.1\n, 0.2\n, 0.5\n, 0.6\n]",
        "[\u00a00.1,\u20030.2,\t0.5, 0.6\u3000]", "[0.1, 0.2, 0.5, 0.6\x1c]", "[[0.1, 0.2], [0.5, 0.6]]", "[\"0.1\", \"0.2\", \"0.5\", \"0.6\"]", "['0.1', '0.2', '0.5', '0.6']", "", " ", "None", "I cannot find it.",
        "The object is at the left.", "左上角", "座標は[0.1, 0.2, 0.5, 0.6]です", "Рамка: [0.1, 0.2, 0.5, 0.6]", "[]", "[,,,]", "[a, b, c, d]", "[0.1, 0.2, 0.5, x]", "[ 0.1 , 0.2 , 0.5 , 0.6 ]", "[99999999999999999999, 0, 1, 1]", "[0, 0, 1e999, 1]",
        f"**[{short}]**", f"\\boxed{{[{short}]}}", f"<answer>[{short}]</answer>", f"[{form(box, 3)}] is the dog, not [{wrong}]", f"Answer:[{short}]\n", f"[{form(mid, 3)}]", f"({form(mid, 3)})",
        f"[{form([mid[0] - 0.01, mid[1] - 0.01, mid[0] + 0.01, mid[1] + 0.01], 4)}]",
    ]
    yield from [t.format(f"[{wrong}]", f"[{short}]") for t in THOUGHT]
    for _ in range(24):
        scale = rng.choice([0.02, 0.1, 0.25, 0.5])
        yield f"[{form([v + rng.uniform(-scale, scale) for v in box], rng.choice([2, 3, 6]))}]"
    # Widths at which the intersection over union is near a threshold.
    for share in (0.1, 0.3, 0.5, 0.7, 0.9):
        for off in (-1e-3, -1e-9, 0.0, 1e-9, 1e-3):
            yield f"[{form([x1, y1, x1 + (x2 - x1) * (share + off), y2], 12)}]"


def points(doc):
    x1, y1, x2, y2 = box = doc["bbox"]
    rng = random.Random(str(box))
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    p, out = f"{x:.4f}, {y:.4f}", f"{(x + 0.51) % 1:.2f}, {(y + 0.51) % 1:.2f}"
    thousand = f"{round(1000 * x)}, {round(1000 * y)}"
    yield from [
        f"[{p}]", f"({p})", p, f"[{p}", f"{{{p}}}", f"<{p}>", f"[{p.replace(', ', ' ')}]", f"[{p.replace(', ', ',')}]", f"[{p.replace(', ', ';')}]", f"The point is ({p}).", f"({out}) or ({p})", f"({p}) not ({out})",
        f"[{thousand}]", f"({thousand})", f"({x * 16:.2f}, {y * 10:.2f})", f"[{100 * x:.2f}%, {100 * y:.2f}%]", f"{100 * x:.2f}% {100 * y:.2f}%", f"[{form(box, 4)}]", f"({form(box, 4)})", form(box, 4),
        f"bbox: {form(box, 4)}", f"The Box is {form(box, 4)}", f"rectangle {form(box, 4)}", f"<bbox>{form(box, 4)}</bbox>", f"< bbox id=1 >{form(box, 4)}< / bbox >", f"<BBOX>\n{form(box, 4)}\n</BBOX>", f"<bbox>{p}</bbox>",
        f"<bbox>{p}</bbox> [{out}]", f"<box>({round(1000 * x1)},{round(1000 * y1)}),({round(1000 * x2)},{round(1000 * y2)})</box>", f"<box>({x1},{y1}),({x2},{y2})</box>", f"box ({p})", "<box></box>", "box",
        f"x={x:.4f}, y={y:.4f}", f"x: {x:.4f} y: {y:.4f}", f'{{"x": {x:.4f}, "y": {y:.4f}}}', f"{{'X': {x:.4f},\n'Y': {y:.4f}}}", f"y={y:.4f}, x={x:.4f}", f"pyautogui.click(x={x:.4f}, y={y:.4f})", f"click({p})", f"CLICK <point>[[{thousand}]]</point>",
        f"<|box_start|>({thousand})<|box_end|>", f"({p}, 1)", f"(1, {p})", f"1. ({p})", f"Step 1: click [{p}]", f"[[{p}]]", f"(({p}))", f"( {p} )", f"[\n{p}\n]", f"[{p}]\n", f" [{p}]", f"[+{p}]", f"[-{p}]", f"[- {p}]", "[.5, .5]", "[0.5., 0.5]",
        "[1, 1]", "[1.0, 1.0]", "[0, 0]", "[2, 2]", "[1.01, 0.5]", "[0.5, 1.01]", "[-0.5, -0.5]", "[nan, nan]", "(NaN, 0.5)", "[inf, inf]", "[1e-1, 2e-1]", "[1/2, 1/2]", "[half, half]", "[０.５, ０.５]", "[٠.٥, ٠.٥]", "[0.5，0.5]", "（0.5, 0.5）", "[0.5\u00a00.5]",
        "", " ", "none", "0.5", "[0.5]", "[0.5, ]", "[, 0.5]", "0.5 0.5", "0.5, 0.5, 0.5", "0.5 0.5 0.5 0.5 0.5", "50% 50%", "50%, 0.5", "%50 %50", "5 0 . 5", "0.1-0.5", "0.1–0.5", "1,000, 2,000", "Click the button", "点击 [0.5, 0.5]", "クリック(0.5, 0.5)",
        f"**({p})**", f"<answer>({p})</answer>", f"\\boxed{{({p})}}", f"[{x1}, {y1}]", f"[{x2}, {y2}]", f"[{x1}, {y2}]", f"[{x1 - 1e-12}, {y}]", f"[{x2 + 1e-12}, {y}]", f"[99999999999999999999999, {y}]", f"[{p}] [{p}] [{p}]",
    ]
    yield from [t.format(f"({out})", f"({p})") for t in THOUGHT]
    for _ in range(20):
        yield f"({x + rng.uniform(-0.3, 0.3):.3f}, {y + rng.uniform(-0.3, 0.3):.3f})"


WORDS = [
    "yes", "Yes", "YES", "yes.", "Yes!", " yes ", "yes\n", "\tyes", "Yes, it is", "no", "y e s", "yes yes", "", " ", "2", "two", "Two", "TWO.", "2.", "2.0", "02", "two dogs", "2 dogs", "1,000", "1000", "1,,000", "1, 000", "1,000.", "10,00,0", "3", "three", "none", "0", "zero",
    "park", "the park", "The Park.", "a park", "an park", "in park", "in the park", "park!", "park-", "-park", "dog-park", "dog park", "dog - park", "parking lot", "(park)", "[park]", "\"park\"", "'park'", "park's", "parks", "the", "a", "an the a",
    "dont know", "don't know", "dont  know", "DONT KNOW", "don’t know", "doesnt", "i dont", "whats that", "t-shirt", "t shirt", "tshirt", "t -shirt", "t- shirt", "1.5", "1 .5", "1. 5", ".5", "1.5.", "1.5.0", "a.b", "...", "1,5", "1.5,2", "1,5;2/3", "1,5 / 2",
    "blue and white", "Blue and White.", "blue,white", "blue, white", "blue / white", "blue/white", "white; blue", "white;blue", "blue & white", "blue\tand\nwhite", "blue\\white", "blue_white", "blue=white", "blue+white", "blue>white <", "blue@white`", "{blue}white", "蓝色", "ｙｅｓ", "２", "да",
    "<think>no</think>yes", "<think>no</think>\n\n2", "<think>yes", "no</think>park", "<analysis>no</analysis>blue and white", "<THINK>no</THINK>yes", "<answer>yes</answer>", "\\boxed{2}", "**park**", "yes" * 40, ". " * 40 + "park", "park?", "?park", "yes\x1c", "\u3000yes", "yes\u00a0",
    "somebody'd", "somebodyd", "Id've", "ten 10", "none of them", "one two three", "it's", "its", "park park", "unanswerable",
]


def vqa(doc):
    yield from WORDS


def spatial(doc):
    gold = doc["ground_truth"]
    if doc["options"]:
        text = doc["options"][ord(gold) - 65]
        other = "B" if gold == "A" else "A"
        yield from [
            gold, gold.lower(), f"{gold}.", f"{gold}..", f"{gold} .", f" {gold}", f"{gold}\n", f"\n{gold}", f"({gold})", f"{gold})", text, text[3:], f"{gold}:", f"{gold},", f"**{gold}**", f"The answer is {gold}", f"{gold} is right", f"{gold}\tis", f"{gold}\n{text}", f"Option {gold}",
            other, f"{other}.", f"{gold} or {other}", f"{other} {gold}", f"{gold}{other}", "", " ", ".", "E", "none", "Ａ", "А", "ａ", f"<answer>{gold}</answer>", f"\\boxed{{{gold}}}", f"{gold}\u00a0", f"{gold}\u3000.", "İ", "ß",
            f"<think>{other}</think>{gold}", f"<think>{other}", f"{other}</think> {gold}", f"<analysis>{other}</analysis>{gold}.",
        ]
        return
    g = float(gold)
    yield from [gold, f"{gold}.", f"{gold}\n", f" {gold}", f"{gold} meters", f"about {gold}", f"{gold}m", f"{gold} .", f"The answer is {gold}.", f"-{gold}", f"+{gold}", f"{gold}0", f"0{gold}", f"{gold},0", f"{gold}%", f"${gold}", f"{gold}e0", f"{gold}_0", f"({gold})", f"**{gold}**", f"~{gold}", f"{gold}-5", f"1-{gold}"]
    for error in (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.51, 0.7, 1.0, 3.0):
        yield repr(g * (1 + error))
        yield repr(g * (1 - error))
        yield f"{g * (1 - error):.2f}"
    yield from [
        "0", "0.0", "-0", "nan", "NaN", "inf", "-inf", "Infinity", "1e3", "1e-3", "1_0", "1__0", "0x10", "1,000", "", " ", ".", "four", "Four.", "seven chairs", "There are four chairs", "There are 4 chairs", "one apple, room 7", "no chairs", "none", "twenty-one", "twenty one", "one hundred and seven",
        "a hundred and seven", "hundred", "thousand", "two thousand and four hundred", "three hundred and twenty-one thousand five", "one million", "nineteen ninety", "four or five", "four, five", "4 5", "4.5.6", "4..5", "-4", "- 4", "-four", "4-", "٤", "４", "４.０", "4²", "½", "IV", "fourth", "seventeen", "sevenths",
        "and four", "four and", "four and then seven", "four and seven", "zero", "oh", "23.7 square meters (5 x 4.74)", "5 x 4.74 = 23.7", "107 cm", "1.07 m", "four\nseven", "FOUR", "<think>9</think>4", "<think>9</think>7", "<think>4", "9</think>107", "<analysis>9</analysis>2.4", "<answer>4</answer>", "\\boxed{4}", "4\x1c", "\u30004", "four\u00a0chairs",
    ]


LONG = "The annual report of the river commission was read aloud by the clerk"


def spots(doc):
    right = [[100, 100, 300, 200, "OPEN"], [400, 400, 600, 500, "Exit"], [0, 0, 50, 50, "x"], [700, 700, 900, 800, "No.1"]]
    plain = lambda items: ", ".join(f"({a}, {b}, {c}, {d}, {t})" for a, b, c, d, t in items)
    yield from [
        str(right), json.dumps(right), str([tuple(r) for r in right]), plain(right), f"[{plain(right)}]", str(right[:2]), str(right[0]), plain(right[:1]), str(right + right), str([[*r[:4], r[4].lower()] for r in right]), str([[*r[:4], r[4] + "!"] for r in right]),
        str([[*map(str, r[:4]), r[4]] for r in right]), str([[*map(float, r[:4]), r[4]] for r in right]), str([[*r, 0.9] for r in right]), str([r[:4] for r in right]), str({1: right[0]}), str(tuple(map(tuple, right))), "[(100, 100, 300, 200, \"OPEN\"), (400, 400, 600, 500, 'Exit!')]",
        "(100,100,300,200,OPEN)", "[100,100,300,200,OPEN][400,400,600,500,Exit!]", "(100,100,300,200,\"OPEN\")\n(400,400,600,500,'Exit!')", "(100,100,300,200,OPEN, closed)", "(100 ,100 ,300 ,200 , OPEN )", "(300,200,100,100,OPEN)", "(100,100,100,200,OPEN)", "(100,100,1300,200,OPEN)", "(-1,100,300,200,OPEN)",
        "(100.0,100,300,200,OPEN)", "(100,100,300,200,)", "(100,100,300,200, )", "(100,100,300,200)", "((100,100,300,200,OPEN))", "[[100,100,300,200,OPEN]]", "(90,100,310,200,open)", "(100,100,200,200,OPEN)", "(100,100,201,200,OPEN)", "(100,100,300,199,OPEN), (101,100,300,200,OPEN)", "(100,100,300,200,wrong), (100,100,300,200,OPEN)",
        "(0,0,50,50,###)", "(0,0,50,50,a), (100,100,300,200,OPEN)", "(0,0,40,40,a), (10,10,45,45,b), (100,100,300,200,OPEN)", "(700,700,900,800,No.1)", "(700,700,900,800,\"No.1\")", "(700,700,900,800,'\"No.1\"')", "(700,700,900,800,No.1\\\")", "(400,400,600,500,Exit)", "(400,400,600,500,exit!!)", "(400,400,600,500, EXIT!)", "", " ", "none", "[]", "()", "[[]]", "[1, 2]",
        "[(100, 100, 300, 200, 'OPEN'", "[(100, 100, 300, 200, 'OPEN'), ]", "[(1_00, 0x64, 300, 200, 'OPEN')]", "[(100, 100, 300, 200, 'OP' 'EN')]", "[(100, 100, 300, 200, 'O\\u0050EN')]", "[(100, 100, 300, 200, b'OPEN')]", "[(100, 100, 300, 200, None)]", "[(True, 100, 300, 200, 'OPEN')]", "[(100, 100, 300, 200, ['OPEN'])]", "[(100, 100, 300, 200, 'OPEN'), # one\n (400, 400, 600, 500, 'Exit!')]",
        "```json\n[[100, 100, 300, 200, \"OPEN\"]]\n```", "Result: [[100, 100, 300, 200, \"OPEN\"]]", "[(100, 100, 300, 200, 'OPEN\\n')]", "(１００,100,300,200,OPEN)", "(100,100,300,200,ОPEN)", "[(100, 100, 300, 200, 'OPEN')] done", "[(100, 100, 300, 200, 'It''s')]", "<think>(1,1,2,2,a)</think>(100,100,300,200,OPEN)", "[(100, 100, 300, 200, 'ß')]", "(100,100,300,200,open)(400,400,600,500,exit!)(700,700,900,800,no.1)",
    ]


def pairs(doc):
    gold = doc["answers"][0]
    known = {"company": "OLD TOWN", "date": "2024", "total": "30.00"} if "company" in gold else {"姓名": "张三", "电话": "123"} if "姓名" in gold else {"Name": "J. Doe", "Age": "31"}
    first, rest = list(known.items())[0], dict(list(known.items())[1:])
    swapped = {**known, list(known)[-1]: "一二三" if "姓名" in gold else "thirty one"}
    yield from [
        json.dumps(known), json.dumps(known, ensure_ascii=False), str(known), json.dumps(known, indent=2), f"```json\n{json.dumps(known)}\n```", f"```python\n{known}\n```", f"```\n{json.dumps(known)}\n```", f"```JSON\n{json.dumps(known)}\n```", f"Here:\n```json\n{json.dumps(known)}\n```\nDone.", f"Here: {json.dumps(known)}",
        f"{json.dumps(known)} is it", json.dumps(rest), json.dumps({**known, "extra": "1"}), json.dumps({k: v.lower() for k, v in known.items()}), json.dumps({k: f" {v} \n" for k, v in known.items()}), json.dumps({f" {k} ": v for k, v in known.items()}), json.dumps({k.upper(): v for k, v in known.items()}), json.dumps({k: [v] for k, v in known.items()}),
        json.dumps(swapped), json.dumps(swapped, ensure_ascii=False), str(swapped), "\n".join(f"{k}: {v}" for k, v in known.items()), ", ".join(f"{k}={v}" for k, v in known.items()), "\n".join(f"\"{k}\" : \"{v}\"" for k, v in known.items()), "; ".join(f"{k}: {v}" for k, v in known.items()), "{" + ", ".join(f"{k}: {v}" for k, v in known.items()) + "}",
        "{" + ", ".join(f"'{k}': '{v}'" for k, v in known.items()), json.dumps({**known, first[0]: None}), json.dumps({**known, first[0]: 31}), json.dumps({**known, first[0]: 30.0}), json.dumps({**known, first[0]: True}), json.dumps({**known, first[0]: {"a": 1}}), json.dumps({**known, first[0]: ""}), json.dumps([known]), json.dumps(list(known)), "31", "\"text\"", "{}", "[]", "", " ", "null", "None",
        "{'Age': 31, 'Name': 'J. Doe'}", "{'Age': 31,}", "{\"Age\": 31,}", "{\"Age\": \"31\" \"Name\": \"J. Doe\"}", "{'total': 30.00, 'date': 2024}", "{'total': 1e3}", "{'total': 3e-7, 'date': 1e16}", "{'total': -0.0}", "{'total': (1, 2)}", "{'total': ['a', \"it's\", None, 1.5, True]}", "{'total': 'a' 'b'}", "{1: 'a'}", "{'total': NaN}", "{\"total\": NaN}", "{\"total\": Infinity}", "{\"total\": 1e400}",
        "{\"total\": 123456789012345678901234567890}", "{\"total\": \"30.00\", \"total\": \"31\"}", "{\"a\\u0062\": \"\\ud83d\\ude00\"}", "{\"total\": \"30\n.00\"}", "{'total': '30\\x2e00'}", "company OLD TOWN", "company: OLD TOWN, date: 2024, total: 30.00", "The company is: OLD TOWN", "company = 'OLD TOWN'\ndate = \"2024\"", "Name：J. Doe", "total:30.00,date:2024", "<think>{}</think>" + json.dumps(known), "{\"total\": \"30.00\"}}",
        "```json\n{\"date\": \"2024\"}\n```\n```json\n{\"total\": \"30.00\"}\n```", "```json {\"date\": \"2024\"}```", "{'a': {'b': 'c'}, 'd': [1, 2]}", "{'date': '2024'}  ", "\n{'date': '2024'}", "  {'date': '2024'}", "{'date': 2024.0}", "{'date': +2024}", "{'date': 2_024}", "{'date': 0b1}", "{'date': 1+2j}", "{'date': 2024 - 1}", "{'date': r'20\\24'}", "{'date': '''2024'''}", "{'date': f'2024'}", "{'date'; '2024'}",
    ]


def positions(doc):
    yield from [
        '{"answer": "12:30", "bbox": [10, 20, 110, 220]}', "{'answer': '12:30', 'bbox': [10, 20, 110, 220]}", '{"answer": "12:30", "bbox": "[10, 20, 110, 220]"}', '{"answer": "12:30", "bbox": "10, 20, 110, 220"}', '{"answer": "12:30"}', '{"bbox": [10, 20, 110, 220]}', '{"answer": "at 12:30 pm", "bbox": [10, 20, 60, 220]}',
        '{"answer": "1230", "bbox": [10, 20, 110, 120]}', '{"answer": "12:30", "bbox": [10.9, 20.9, 110.9, 220.9]}', '{"answer": "12:30", "bbox": ["10", "20", "110", "220"]}', '{"answer": "12:30", "bbox": [[10, 20, 110, 220]]}', '{"answer": "12:30", "bbox": [10, 20, 110]}', '{"answer": "12:30", "bbox": [10, 20, 110, 220, 5]}', '{"answer": "12:30", "bbox": [110, 220, 10, 20]}',
        '{"answer": "12:30", "bbox": {"x1": 10}}', '{"answer": "12:30", "bbox": null}', '{"answer": "12:30", "bbox": []}', '{"answer": "12:30", "bbox": "x"}', '{"answer": 12.5, "bbox": [0, 0, 1000, 1000]}', '{"answer": ["12:30"], "bbox": (10, 20, 110, 220)}', "{'answer': '12:30', 'bbox': (10, 20, 110, 220)}", "```json\n{\"answer\": \"12:30\", \"bbox\": [10, 20, 110, 220]}\n```",
        "answer: 12:30, bbox: [10, 20, 110, 220]", "answer: 12, bbox: 10", "bbox=[10,20,110,220]", "12:30 [10, 20, 110, 220]", "12:30", "", " ", "[10, 20, 110, 220]", '{"Answer": "12:30", "BBox": [10, 20, 110, 220]}', '{" answer ": "12:30", " bbox ": [10, 20, 110, 220]}', '{"answer": "", "bbox": [10, 20, 110, 220]}', '{"answer": "12:30", "bbox": [-10, -20, 110, 220]}', '{"answer": "12:30", "bbox": [1e1, 2e1, 110, 220]}',
        '{"answer": "12:30", "bbox": [true, 20, 110, 220]}', '{"answer": "12:30", "bbox": "[1_0, 20, 110, 220]"}', '{"answer": "12:30", "bbox": "[10, 20, 110, 220] "}', '{"answer": "12:30", "bbox": "[ 10, \\"20\\", 110, 220]"}', '{"answer": "12:30", "bbox": "[10, \'20.5\', 110, 220]"}', '{"answer": "12:30", "bbox": [0.1, 0.2, 0.5, 0.6]}', '{"answer": "12:30", "bbox": [10, 20, 110, 220]', "<think>x</think>{\"answer\": \"12:30\", \"bbox\": [10, 20, 110, 220]}",
    ]


def grounding(doc):
    yield from [
        "[100, 200, 300, 400]", "(100, 200, 300, 400)", "[100,200,300,400)", "100, 200, 300, 400", "[100 200 300 400]", "[ 100 , 200 , 300 , 400 ]", "[100, 200, 300, 400] [1, 2, 3, 4]", "[1, 2, 3, 4] [100, 200, 300, 400]", "[100, 200, 300, 400] [1, 2, 3, 4] [100, 200, 300, 400]", "[0, 0, 1000, 1000]", "[0, 0, 1001, 1000]", "[100, 200, 300, 400] [0, 0, 1001, 1]",
        "[0.1, 0.2, 0.3, 0.4]", "[100.0, 200.0, 300.0, 400.0]", "[-100, 200, 300, 400]", "[300, 400, 100, 200]", "[100, 200, 100, 400]", "[0, 0, 0, 0]", "[200, 200, 300, 400]", "[150, 250, 350, 450]", "[100, 200, 300, 401]", "[99, 200, 300, 400]", "bbox: [[100, 200, 300, 400]]", '{"bbox": [100, 200, 300, 400]}', "<box>(100,200),(300,400)</box>", "[100, 200, 300]", "[100, 200, 300, 400, 500]", "(x1=100, 200, 300, 400)",
        "", " ", "none", "[１００, 200, 300, 400]", "[100，200，300，400]", "[100,\n200,\n300,\n400]", "The box is (100, 200, 300, 400).", "<think>[1, 2, 3, 4]</think>[100, 200, 300, 400]", "[100, 200, 300, 400]</think>[1, 2, 3, 4]", "[0100, 0200, 0300, 0400]", "[100, 200, 300, 400", "[300, 200, 500, 200]", "[500, 0, 300, 200]",
    ]


def document(doc):
    gold = doc["answers"][0]
    head, *body = gold.split("\n")
    yield from [
        gold, gold + "\n", "\n" + gold, gold.replace("#", ""), gold.upper(), head, "\n".join(body), "\n".join(reversed(gold.split("\n"))), gold + "\nmore", gold + "\n# More\nline\nline", gold.replace("\n", "\n\n"), gold.replace("\n", " "), "", " ", "\n\n\n", "#", "##", "# ", "#\ntext", "text", "a\nb\nc\nd\ne\nf\ng\nh", "# A\n# A\nx\ny", "# TITLE\nx", "# ROOT\nx\ny", "#TITLE\nx\n#ROOT\ny",
        f"```markdown\n{gold}\n```", "\\begin {table}\na & b\n\\end {table}\n", "<bos># Title<eos>\nSome ##text", "{ a }\n\\ b * * c _d_", "| a | b |\n|---|---|\n| 1 | 2 |", "*\n_\n**", "# *\n# _\nx", "# Title\n# Title \n Some text", " # Title\ntext", "# T\u3000\n\u3000", "<think>x</think>" + gold, "\r\n".join(gold.split("\n")), "# Title\t\n\t",
    ]


def charts(doc):
    gold = doc["answers"][0]
    known = {"title": "Growth", "values": {"a": "1", "b": 2.5}, "unit": "km"}
    swapped = dict(reversed(known.items()))
    yield from [
        gold, str(known), json.dumps(known), json.dumps(known, indent=2), f"```python\n{known}\n```", f"```json\n{json.dumps(known)}\n```", f"```\n{known}\n```", f"chart = {known}", f"  data={known}", f"Here is it: {known}", f"{known} # as read", f"{known}\nDone.", f"```python\nchart = {known}\n```\ntext",
        str(swapped), str({"title": "Growth"}), str({**known, "more": 1}), str({**known, "title": "growth"}), str({**known, "title": "Growth of km"}), str({k.upper(): v for k, v in known.items()}), str({**known, "values": {"a": "1"}}), str({**known, "values": [1, 2.5]}), str({**known, "unit": None}), str({**known, "unit": True}), str({**known, "unit": ""}), str({"": ""}), str({"a": ""}),
        "{}", "[]", "", " ", "None", "text", "[{'title': 'Growth'}]", "{'title'}", "{'title': 'Growth', 'title': 'x'}", "{'title': 'x', 'title': 'Growth'}", "{1: 2, 1.5: 3, None: 4, True: 5, (1, 2): 6}", "{[1]: 2}", "{'title': 'Growth'", "{'title': 'Growth'}}", "{'title': Growth}", "{'title': 'Growth', # the title\n 'unit': 'km'}", "{'title': 'No. #1', 'unit': 'km'}",
        "{'title': 'It\\'s', \"unit\": \"a \\\"b\\\"\"}", "{'title': 'a\\nb'}", "{'title': 'a\\tb'}", "{'title': '\\u00e9'}", "{'title': '增长'}", "{'title': ['a', \"it's\", 1e-7, 1e22, -0.0]}", "{'values': {'b': {'c': [1, (2,), {3}]}}}", "```python\n{'a': 1}\n```\n```python\n{'title': 'Growth', 'unit': 'km'}\n```", "```python\n{'a': 1}\n```\n```python\n{'b': 2}\n```", "```\nnothing\n```",
        "<think>x</think>" + str(known), "{'title': 'Growth', 'values': {'a': '1', 'b': 2.50}, 'unit': 'km', 'x': 1, 'y': 2, 'z': 3}", "{'unit': 'km', 'title': 'Growth'}", "{'t': 'G', 'v': '1', 'u': 'k'}", "{\"title\": null}", "{\"title\": true}", "a = b = {'title': 'Growth'}", "print({'title': 'Growth'})", "{**{'title': 'Growth'}}", "{'title': 'Growth' 'x'}", "{'title': 10 ** 2}",
    ]


def ocr(doc):
    """Answers to one row of OCRBench v2, by its task."""
    kind, gold = doc["type"], doc["answers"][0]
    special = {"text spotting en": spots, "VQA with position en": positions, "text grounding en": grounding}
    if kind in special:
        yield from special[kind](doc)
    elif kind.startswith("key information"):
        yield from pairs(doc)
    elif kind.startswith("chart parsing"):
        yield from charts(doc)
    elif kind.startswith("document parsing"):
        yield from document(doc)
    else:
        yield from [
            gold, gold.lower(), gold.upper(), f" {gold} ", f"{gold}.", f"{gold}\n", f"The answer is {gold}.", f"({gold})", f"{gold}) text", f"{gold}: text", gold[:-1], gold[1:], gold + gold, " ".join(gold), gold.replace(" ", ""), gold.replace(" ", "\n"), gold.replace(" ", "  "), doc["answers"][-1], f"**{gold}**", f"\\boxed{{{gold}}}", f"<answer>{gold}</answer>",
            f"<think>x</think>{gold}", f"<think>{gold}", f"x</think>{gold}", f"<think>{gold}</think>x", gold.replace("report", "rapport"), gold[: len(gold) // 2], gold + " " + gold[: len(gold) // 2], gold[::-1], "", " ", "\n", "x", "A", "B", "C", "D", "a", "b.", "A B", "A. B", "ＡＢ", "È", "7", "7.0", "07", "77", "6", "8", "9", "10", "4", "3", "13", "14", "0", "-7", "seven", "There are 7 words", "7 or 8", "12", "twelve", "TWELVE 12",
            "7,000", "７", "٧", "about 5", "99999999999999999999999", "1.5", "None", "nan", "红,黄,蓝", "红,黄,蓝,绿", "红, 黄, 蓝, 绿", "红黄蓝绿", "绿,蓝,黄,红", "abc", "Abc d", "北 京 路", "北京", "x\\text{元}+1", "x 元 + 1", "x\\text{ {元} }+1", "x\\text{元}+1 = 0", "\\frac{a}{B}+1", "\\frac{a}{b}+1", "$\\frac {a} {B} + 1$", "iphone", "IPHONE", "May 4 1988", "4 MAY 1988 or so",
        ]
