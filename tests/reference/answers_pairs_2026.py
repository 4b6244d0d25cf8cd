"""The adversarial answers of scorers_pairs_2026.py."""

YES_NO = [
    "Yes", "No", "yes", "no", "YES", "NO", "Yes.", "No.", "yes!", "No, it is not.", "Yes, it is.", "Yes it does", "no way", "Nope", "Yeah",
    "Y", "N", "y", "n", "True", "False", "1", "0", "", " ", "\n", "...", "Maybe", "Unclear", "I don't know", "I cannot tell from the image.",
    "not sure", "It is not.", "It is.", "Yes or no?", "No or yes?", "Yes and no", "yes no", "no yes", "Yes/No", "not yes", "No. Yes.", "Yes. No.",
    "The answer is yes.", "The answer is no.", "The answer: Yes", "Answer: No", "Answer:No", "answer=yes", "I think yes, because there is no cloud.",
    "I think no, yes would be wrong.", "There is no kite.", "None", "Nothing", "Not at all", "nobody", "know", "yesterday", "eyes", "noon", "Yes-man",
    "no-one", "_yes_", "*Yes*", "**No**", "(yes)", "[No]", "\"Yes\"", "'no'", "“Yes”", "yes,no", "yes, no", "Yes,it is", "Yes;", "no:", "yes?no",
    "1,000 yes", "3,5 no", "yes_no", "Yes.No", "no.1", "2.5 yes", "Yes\nNo", "No\n\nBecause yes", "\tyes\t", "Yes\u00a0", "ｙｅｓ", "ＮＯ", "ja", "nein",
    "oui", "sí", "да", "нет", "是", "不是", "不", "はい", "いいえ", "yes是", "不是 no", "Ye s", "N o", "yEs", "nO", "Yess", "Noo", "éyes", "yesé", "yes1", "2no",
    "The bar is as long as the other. So yes", "It has no flag; yes, no flag", "Absolutely! Yes!", "Is it? Yes", "<answer>Yes</answer>", "<answer> No </answer>",
    "\\boxed{Yes}", "$\\text{no}$", "{\"answer\": \"yes\"}", "yes" * 3, "no " * 3, "YES " * 2, "Yes (no doubt)", "No (yes?)", "@yes@ no", "yes@ no@", "İyes", "ſ yes",
]
LETTERS_AB = [
    "A", "B", "a", "b", "A.", "B.", "(A)", "(B)", "A:", "B)", "A: Knit cap", "B:Helmet", "Option A", "option b", "The answer is A.", "The answer is B",
    "Answer: B", "answer:a", "A or B", "B or A", "A and B", "Both A and B", "neither", "", " ", "a helmet", "A helmet is worn, so B", "B, a helmet",
    "It is a cap.", "An apple", "Bee", "Apple", "AB", "BA", "A/B", "B/A", "A\nB", "B\nA", "not A", "not A but B", "C", "D", "Helmet", "Knit cap",
    "**B**", "*A*", "_A_", "_b", "a_b", "B_", "'A'", "\"B\"", "[a]", "{B}", "A1", "1A", "A-", "-b-", "a.b", "b.a", "A's", "b'day", "vitamin B", "plan A",
    "Because of a cloud it is B", "I'd say B.", "I'd say: a", "Á", "á b", "Ａ", "Ｂ", "答案是A", "选 B", "答案：B。", "ответ B", "ответ А", "Yes", "No", "true",
    "<answer>B</answer>", "\\boxed{A}", "$B$", "A\u00a0", "\u3000B", "A, I mean B", "B...", "...A", "(a) knit cap", "The letter is a", "b) a helmet", "Choice: B; not A",
]
TRUE_FALSE = [
    "True", "False", "true", "false", "TRUE", "FALSE", "True.", "False.", "(True)", "(False)", "(True) or (False)", "True or False", "False, not True", "Not True",
    "untrue", "UnTrue", "Truely", "Falsely", "It is True.", "The statement is False.", "The final answer is (True).", "(False) because it is not True",
    "(True) (True)", "True True", "T", "F", "Yes", "No", "", " ", "Correct", "Wrong", "The statement is true", "**True**", "*False*", "\"True\"", "'False'",
    "[True]", "{False}", "True\n", "\nFalse", "True\n\nFalse", "False\n(True)", "(true)", "(FALSE)", "( True )", "True)", "(False", "真", "假", "正确",
    "Answer: True", "answer: False", "Final answer: (False)", "The answer is True, False is wrong", "I think it's True", "A", "B", "1", "0", "TrueFalse", "None",
    "<answer>True</answer>", "\\boxed{False}", "Definitely True!", "Possibly False?", "True-ish", "_True_", "True,", "False;", "It cannot be True", "It can only be (True)",
    "Trueé", "Ｔrue", "True\u00a0", "False\u3000", "There is no triangle. False", "There is a triangle. True", "(True): yes", "(False): no", "True (100 %)", "False (0 %)",
]
LETTERS = [
    "A", "B", "C", "D", "E", "a", "b", "A.", "B.", "(A)", "(B)", "(c)", "[D]", "{B}", "A)", "B:", "**B**", "*C*", "`D`", "\"A\"", "'B'", "A. dog", "B. cup",
    "(C) red car", "D) tree", "B cup", "C: red car", "dog", "cup", "red car", "tree", "Dog", "CUP", "Red car.", "a dog", "a red car", "the tree", "car",
    "The answer is B", "The answer is B.", "The answer is (C).", "the answer is d", "Answer: B", "Answer: (B) cup", "The best answer is C", "The best answer is: (D)",
    "The correct answer is A.", "The correct answer is **B**. Here is why: it is small.", "The best option is D", "The correct option is A", "Best answer: B", "Best option: C",
    "Best answer:Best option: B", "The best option isThe correct option is C", "The answer", "The answer: cup", "Option B", "option C is right", "Choice D", "I choose B",
    "A or B", "A and B", "B, C", "A B", "A/B", "A, B, C, D", "A. dog\nB. cup\nC. red car\nD. tree", "Either B or C.", "Not B", "not (B)", "It is not A but B",
    "", " ", "\n", ".", "Z", "F", "none", "None of the above", "None of these", "I don't know", "Cannot determine the answer", "I can't process this file.",
    "I'm sorry, but without the image provided", "Failed to obtain answer via API", "Based on the image, it is the cup.", "Because of the shape, C.", "As can be seen, D",
    "Dog and cup", "dog, cup", "a dog or a cup", "There is a tree.", "I see a cup and not a dog", "The object is a cup", "It shows a red car", "An animal",
    "Every day", "apple", "e", "d", "(e)", "(E)", "E.", "Eagle", "B\n\nThe cup is in the middle.", "The cup is in the middle.\n\nB", "Let me think. The cup. So B", "C\nD",
    "答案是B", "选 C", "答案：D。", "ответ B", "B.cup", "B-cup", "B，cup", "Ｂ", "1", "2", "the second", "<answer>B</answer>", "<answer>c</answer>", "\\boxed{B}", "$D$", "#B", "B!", "B?",
    "B;", "B*", "!B", "(B", "B)", "A: B", "A is B", "D'oh", "I think A is wrong, so it must be the tree", "Sorry, I can't help with images of people yet.",
    "this is a long answer without any capital letter that is one of them at all", "This is a long answer without any capital of the five in it, of course it is",
]
# Answers to questions that may have several right options, and the list in them; no code finds it without a language model.
SEVERAL = [
    ("a,c", "a,c"), ("a, c", "a,c"), ("c, a", "a,c"), ("(a), (c)", "a,c"), ("(a) (c)", "a,c"), ("a c", "a,c"), ("a and c", "a,c"), ("a, and c", "a,c"), ("a & c", "a,c"),
    ("a;c", "a,c"), ("a/c", "a,c"), ("a\nc", "a,c"), ("a, c.", "a,c"), ("**a, c**", "a,c"), ("[a, c]", "a,c"), ("a,a,c", "a,c"), ("A, C", "a,c"), ("b", "b"), ("b.", "b"), ("(b)", "b"),
    ("B", "b"), ("b,c", "b,c"), ("a, b, c, d", "a,b,c,d"), ("a,b,c", "a,b,c"), ("", None), (" ", None), ("none", None), ("None", None), ("The figures are a and c.", None),
    ("a, c because of the ring", None), ("ac", None), ("e", None), ("a, e", None), ("all", None), ("all of them", None), ("not b", None), ("a or c", None), ("1, 3", None), ("и a", None),
    ("a,", "a"), (",", None), ("and", None), ("a and", "a"), ("Figure b", None), ("b) ring", None), ("a–c", None), ("a-c", None), ("a, c, ?", None), ("d", "d"), ("(d).", "d"),
]
COUNTS = [
    "3", "10", " 3 ", "3.", "3,", "3!", "03", "+3", "-3", "3.0", "3.5", "30", "13", "31", "three", "Three", "THREE", "three.", " three", "ten", "Ten", "TEN", "tens", "thirteen", "thirty", "twenty",
    "twenty-one", "twenty three", "one", "zero", "none", "None", "no", "", " ", "\n", ".", "...", "3 geese", "three geese", "There are 3 geese.", "There are three geese.", "There are 3.", "I count 3",
    "I count three", "The number is 3", "The answer is 3.", "Answer: 3", "answer is ten", "3 or 4", "3-4", "3 to 5", "about 3", "at least 3", "more than 3", "not 3", "10 or 3", "3, 10", "10 3", "3 10",
    "1 2 3", "1, 2, 3", "a total of 3 geese", "It shows a total of 3 geese and 10 oars", "a total of 10", "A TOTAL OF 3 things", "a total of three", "a total of 3", "none of them", "there are none", "x3", "3x",
    "3D", "#3", "(3)", "[3]", "{3}", "**3**", "\"3\"", "'3'", "3)", "1.3", "1,3", "3 %", "3%", "1/3", "3e0", "0x3", "1_0", "1_0_", "３", "１０", "٣", "३", "三", "十", "III", "3\n", "3\n\nThere are 3 geese.", "There are 2 left\n3",
    "<answer>3</answer>", "\\boxed{3}", "$3$", "3 three", "three 3", "3.\n10", "ten.", "ten three", "a dozen", "several", "many", "a pair", "3 geese and 10 oars", "half", "eleven", "103", "310", "3³", "½", "ſeven", "tEn", "1 0",
]
NUMBERS = ["Line Plot Intersections", "Subway Connections", "Nested Squares", "Olympic Counting - Circles", "Olympic Counting - Pentagons"]
GRIDS = ["Counting Grid - Blank Grids", "Counting Grid - Word Grids"]
# Tasks, the right answer, an answer, and what it says by our rules.
BLIND = [
    *((NUMBERS, "3", answer, found) for answer, found in [
        ("{3}", "3"), ("{ 3 }", "3"), ("3", "3"), ("3.", "3"), (" 3\n", "3"), ("{3}.", "3"), ("**{3}**", "3"), ("**3**", "3"), ("There are {3} of them.", "3"), ("There are 3 of them.", "3"),
        ("The lines meet {2} times, no, {3} times", None), ("{3} {3}", "3"), ("{2}", "2"), ("2", "2"), ("13", "13"), ("{13}", "13"), ("three", "3"), ("Three.", "3"), ("There are three squares", "3"),
        ("3 or 4", None), ("2 lines, {3}", "3"), ("2 lines meet 3 times", None), ("", None), (" ", None), ("{}", None), ("{x}", None), ("none", "0"), ("{three}", "3"), ("zero", "0"), ("no paths", None),
        ("I cannot tell", None), ("３", None), ("-3", None), ("3.5", None), ("{3", "3"), ("3}", "3"), ("\\boxed{3}", "3"), ("$3$", "3"), ("<answer>3</answer>", "3"), ("Answer: 3", "3"), ("x = 3", "3"), ("03", "3"),
    ]),
    *((["Touching Circles"], right, answer, found) for right in ("Yes", "No") for answer, found in [
        ("Yes", "yes"), ("No", "no"), ("yes.", "yes"), ("NO", "no"), ("Yes, they touch.", "yes"), ("No, they do not.", "no"), ("yes or no", None), ("Yes/No", None), ("", None), ("eyes", None), ("They touch.", None),
        ("not", None), ("The answer is yes", "yes"), ("{Yes}", "yes"), ("**No**", "no"), ("Y", None), ("true", None), ("yes no", None), ("\"Yes\"", "yes"), ("yesno", None), ("no one can tell", "no"),
    ]),
    *((["Circled Letter"], right, answer, found) for right in ("w", "T", "a") for answer, found in [
        ("w", "w"), ("W", "w"), ("{w}", "w"), ("t", "t"), ("T.", "t"), ("\"T\"", "t"), ("The letter is w", "w"), ("The circled letter is \"T\".", "t"), ("a", "a"), ("A", "a"), ("It is a", "a"), ("It is a w", None), ("I see w", None),
        ("w and t", None), ("", None), ("word", None), ("{word}", None), ("{a}, not {t}", None), ("'w'", "w"), ("(w)", "w"), ("**w**", "w"), ("é", None), ("3", None), ("letter: w", "w"), ("w\nIt is the first letter.", "w"), ("{T} in Acknowledgement", "t"),
    ]),
    *((GRIDS, "3,4", answer, found) for answer, found in [
        ("rows={3} columns={4}", "3,4"), ("rows={4} columns={3}", "4,3"), ("(3,4)", "3,4"), ("(3, 4)", "3,4"), ("3,4", "3,4"), ("3, 4", "3,4"), ("{3}{4}", "3,4"), ("{3} {4}", "3,4"), ("{3},{4}", "3,4"), ("{3}, {4}", "3,4"),
        ("rows=3 columns=4", "3,4"), ("rows: 3, columns: 4", "3,4"), ("Rows = {3}, Columns = {4}", "3,4"), ("3 rows and 4 columns", "3,4"), ("There are 3 rows and 4 columns.", "3,4"), ("4 columns and 3 rows", "3,4"), ("columns={4} rows={3}", "3,4"),
        ("3x4", "3,4"), ("3 x 4", "3,4"), ("3×4", "3,4"), ("3 by 4", "3,4"), ("3 4", "3,4"), ("34", None), ("3", None), ("{3}", None), ("", None), ("(3,4,5)", None), ("(3,4) or (4,3)", None), ("{3,4}", "3,4"), ("[3,4]", "3,4"), ("(4,3)", "4,3"),
        ("The grid has rows={3} columns={4}.", "3,4"), ("rows={3}\ncolumns={4}", "3,4"), ("three rows and four columns", "3,4"), ("rows: {3}; cols: {4}", "3,4"), ("a 3 by 4 grid", "3,4"), ("(03,4)", "3,4"), ("rows={3}", None), ("I cannot tell", None),
    ]),
]
# Answers with reasoning, and what is left of them.
REASONED = [
    ("<think>A</think>B", "B"), ("<think>Maybe A.</think>\n\nThe answer is B.", "The answer is B."), ("<think>A", None), ("A</think>B", "B"), ("<think>\n</think>\n\n(B)", "(B)"), ("<thinking>A</thinking>B", "B"),
    ("<think>B</think>A", "A"), ("<think>B</think>", ""),
]
FORM = "VLMEvalKit does not know the form in which the answer names its choice"
INSIDE = "the answer contains a letter or the text of a choice, but does not name a choice by it"
# Answers whose letter VLMEvalKit does not find, or finds although they do not name it: what our rules find, and why.
EXCEPTIONS = {
    **{answer: {"is": found, "why": FORM} for answer, found in [
        ("a", "A"), ("b", "B"), ("(c)", "C"), ("`D`", "D"), ("\"A\"", "A"), ("'B'", "B"), ("d", "D"), ("<answer>B</answer>", "B"), ("<answer>c</answer>", "C"), ("B?", "B"), ("A is B", "A"),
    ]},
    **{answer: {"is": None, "why": INSIDE} for answer in [
        "{B}", "a red car", "the tree", "I choose B", "Not B", "not (B)", "Based on the image, it is the cup.", "Because of the shape, C.", "As can be seen, D", "There is a tree.",
        "The object is a cup", "It shows a red car", "The cup is in the middle.\n\nB", "Let me think. The cup. So B", "选 C", "ответ B", "B-cup", "#B", "!B",
    ]},
}
