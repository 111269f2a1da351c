"""Names, cards and results that nobody would write by mistake."""

from __future__ import annotations

OID = "ab" * 32
TEXTS = [
    "", "a", "main", "ns/a", "ns", "refs/pr/1", "refs/heads/main", "work", "v1", "README.md", "a/b", ".", "..", ".git",
    ".gitattributes/x",
    "git~1", ".git ", ".git.", ".GIT", "a/.git/b", ".gitattributes", ".gitmodules", "a\\b", "a:b", "x\0y", "é", "日本",
    "a" * 300, "a/" * 600 + "a", "r" * 3000, "-x", "a b", "a\nb", "@{1}", "HEAD", "0" * 40, OID, "9" * 5000, "nan",
    "\u202e", "\u200c.git", "x.lock", "*", "[z-a]", "%00", "true", "auto", "manual", "private", "open", "closed",
    "model", "dataset", "space", ".eval_results/r.yaml", "large.bin", "con", "a.", "~", "^", "..%2f",
]  # fmt: skip
CARDS = [
    "---\nlicense: mit\n---\n", "---\na: [\n---\n", "---\n" + "[" * 3000, "---\n" + "[" * 3000 + "\n---\n",
    "---\na: &a [*a]\n---\n", "---\nx: .nan\ny: .inf\nz: 2024-01-02\n---\n", f"---\nx: {'9' * 5000}\n---\n",
    "---\ntags: 5\nlanguage: {a: b}\nself: 1\nignore_metadata_errors: 2\n---\n", "---\n? [a]\n: b\n---\n",
    '---\nx: "\\ud800"\n---\n', "---\nx: !!binary aGk=\n---\n", "---\nx: !!int ''\n---\n", "---\n- a\n---\n",
    "---\na: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in
                                                zip("abcdefgh", "bcdefghi", strict=True)) + "---\n",
]  # fmt: skip
RESULTS = [
    "- dataset: {id: ns/b, task_id: t}\n  value: VALUE\n", "- dataset: {id: [1], task_id: t}\n  value: VALUE\n",
    "- dataset: {id: ns/b, task_id: {}}\n  value: VALUE\n  source: VALUE\n",
]  # fmt: skip
VALUES = ["0.5", ".nan", "-.inf", "9" * 400, "1e999", "2024-01-02", "true", "[1]", "&a [*a]", "0x" + "f" * 5000, "''"]
