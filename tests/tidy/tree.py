# SPDX-License-Identifier: Apache-2.0
"""The source tree as the checks see it: its files, their C code without comments, its functions."""
import os
import re
import subprocess

OURS = ("src", "cmd", "work")


class Source:
    """A C file: its text, its code with comments and literals blanked, its // comments."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.lines = text.split("\n")
        self.slash_comments = []  # line numbers
        self.code = self._strip()
        self.code_lines = self.code.split("\n")

    def _strip(self):
        """Comments and the insides of literals become spaces; every line keeps its number."""
        pattern = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)

        def blank(match):
            found = match.group(0)
            if found.startswith("//"):
                self.slash_comments.append(self.text.count("\n", 0, match.start()) + 1)
            inner = re.sub(r"[^\n]", " ", found)
            if found[0] in "\"'":
                return found[0] + inner[1:-1] + found[-1]
            return inner

        return pattern.sub(blank, self.text)

    def includes(self):
        """(line number, path) of each #include "path"."""
        found = []
        for number, line in enumerate(self.lines, 1):
            match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if match:
                found.append((number, match.group(1)))
        return found

    def functions(self):
        """(name, first line, number of lines, complexity) of each."""
        return [(name, line, body.count("\n") + 1, complexity(body))
                for name, line, body in self.bodies()]

    def bodies(self):
        """(name, first line, code between the braces); relies on braces at the line's start."""
        found = []
        start = None
        for index, line in enumerate(self.code_lines):
            if line == "{":
                start = index
            elif line.startswith("}") and start is not None:
                head = "\n".join(self.code_lines[max(0, start - 8):start])
                # what is behind the last end of something else is the signature
                head = re.split(r"[;}]|^#.*$|\n\s*\n", head, flags=re.M)[-1]
                names = re.findall(r"(\w+)\s*\(", re.sub(r"__attribute__\s*\(\(.*?\)\)", "", head,
                                                         flags=re.S))
                if names:
                    found.append((names[0], start + 1, "\n".join(self.code_lines[start:index + 1])))
                start = None
        return found


def complexity(body):
    """McCabe's number: one and one for each decision."""
    return 1 + len(re.findall(r"\b(?:if|for|while|case)\b|&&|\|\||\?", body))


class Tree:
    """A checkout. `build` may be None when a check needs no build folder."""

    def __init__(self, root, build=None):
        self.root = root
        self.build = build
        self.files = self._list()
        self._sources = {}

    def _list(self):
        done = subprocess.run(["git", "-C", self.root, "ls-files", "-co", "--exclude-standard"],
                              capture_output=True, text=True)
        if done.returncode == 0 and done.stdout:
            names = done.stdout.splitlines()
        else:
            names = []
            for folder, folders, files in os.walk(self.root):
                folders[:] = [f for f in folders if not f.startswith((".git", "build"))]
                names += [os.path.relpath(os.path.join(folder, f), self.root) for f in files]
        return sorted(n for n in set(names) if os.path.isfile(os.path.join(self.root, n)))

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
            return file.read()

    def source(self, path):
        if path not in self._sources:
            self._sources[path] = Source(path, self.read(path))
        return self._sources[path]

    def c_files(self, folders=None):
        """All .c and .h files below the given top folders (default: all of the tree)."""
        return [f for f in self.files if f.endswith((".c", ".h")) and
                (folders is None or f.split("/")[0] in folders)]

    def texts(self):
        """Every tracked file that is text and not a saved input of a fuzz target."""
        for path in self.files:
            if "/corpus_" in path or path == "LICENSE":
                continue
            with open(os.path.join(self.root, path), "rb") as file:
                if b"\0" in file.read(8192):
                    continue
            yield path, self.read(path)

    def layers(self):
        """module: (grade, set of modules that it may include), from LAYERS."""
        table = {}
        for line in self.read("LAYERS").splitlines():
            words = line.split("#")[0].split()
            if words:
                table[words[0]] = (words[1], set(words[2:]))
        return table


def module_of(path):
    """The module that a path below src, work or cmd belongs to; None for other paths."""
    parts = path.split("/")
    if parts[0] == "cmd":
        return "cmd"
    if parts[0] in ("src", "work") and len(parts) > 2:
        return parts[1]
    return None
