"""check_includes.py on small made-up trees: each planted violation is found, clean trees pass."""

import tempfile
import unittest
from pathlib import Path

import check_includes

CLEAN = {
    "engine/include/xception/status.h": "#include <string>\n",
    "engine/include/xception/tensor.h": "",
    "engine/include/xception/engine.h": '#include "xception/status.h"\n',
    "engine/graph.h": '#include "kernels/problem.h"\n',
    "engine/passes.cc": '#include "engine/graph.h"\n',
    "engine/backend.h": '#include "engine/graph.h"\n',
    "engine/onednn.h": "#include <dnnl.hpp>\n",
    "engine/backend_cpu.cc": '#include "engine/backend.h"\n#include "engine/onednn.h"\n',
    "engine/backend_cuda.cc": '#include <cuda_runtime.h>\n#include "kernels/conv3x3.h"\n',
    "kernels/problem.h": '#include "xception/tensor.h"\n',
    "kernels/conv3x3.h": '#include "kernels/problem.h"\n#include "xception/status.h"\n',
    "engine/safetensors.h": '#include "xception/status.h"\n',
    "tools/compare.cc": '#include "engine/safetensors.h"\n',
    "tools/bench.cc": '#include <xception/engine.h>\n',
    "tests/testing.h": "",
    "tests/shapes.h": '#include "kernels/problem.h"\n',
    "tests/test_graph.cc": '#include "engine/graph.h"\n#include "testing.h"\n',
}


def check(changes):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**CLEAN, **changes}.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return check_includes.check(Path(folder))[0]


class IncludesTest(unittest.TestCase):
    def test_clean_tree_passes(self):
        self.assertEqual(check({}), [])

    def test_each_planted_violation_is_found(self):
        planted = [
            ("kernels/pool.cu", '#include "engine/graph.h"'),
            ("kernels/pool.cc", '#include "xception/engine.h"'),
            ("kernels/pool.cc", '#include "../engine/include/xception/engine.h"'),
            ("engine/passes.cc", '#include "engine/backend.h"'),
            ("engine/passes.cc", '#include "backend.h"'),
            ("engine/plan.cc", "#include <cuda_runtime.h>"),
            ("engine/networks.cc", "  #  include <dnnl.hpp>"),
            ("engine/plan.cc", '#include "kernels/conv3x3.h"'),
            ("engine/brand_new.cc", '#include "engine/onednn.h"'),
            ("engine/backend_cuda.cc", "#include <oneapi/dnnl/dnnl.hpp>"),
            ("engine/include/xception/engine.h", "#include <cuda_fp16.h>"),
            ("engine/include/xception/engine.h", "#include <nlohmann/json.hpp>"),
            ("engine/include/xception/engine.h", '#include "kernels/problem.h"'),
            ("engine/graph.cc", '#include "tests/testing.h"'),
            ("engine/graph.cc", '#include "tools/output.h"'),
            ("tests/test_graph.cc", '#include "tools/output.h"'),
            ("tools/bench.cc", '#include "tests/testing.h"'),
            ("tools/bench.cc", '#include "engine/graph.h"'),
            ("tools/compare.cc", '#include "engine/safetensors_header.h"'),
        ]
        for name, line in planted:
            with self.subTest(file=name, line=line):
                tools = {"tools/output.h": ""}
                messages = check({**tools, name: "// first line\n" + line + "\n"})
                self.assertTrue(messages)
                self.assertTrue(any(text.startswith(f"{name}:2: ") for text in messages), messages)

    def test_detour_is_found_and_shown(self):
        messages = check({"engine/helper.h": '#include "engine/backend.h"\n',
                          "engine/passes.cc": '#include "engine/helper.h"\n'})
        self.assertTrue(any("engine/passes.cc:1" in text and "through engine/helper.h" in text
                            for text in messages), messages)

    def test_comment_is_no_include(self):
        self.assertEqual(check({"engine/plan.cc": "// #include <cuda_runtime.h>\n"}), [])


if __name__ == "__main__":
    unittest.main()
