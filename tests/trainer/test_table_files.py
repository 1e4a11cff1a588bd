import gzip

import numpy as np
import pandas as pd
import pytest

from edge_agent.contract.errors import DataError
from trainer.findings import Findings, in_rows
from trainer.table_files import read_rows

HEADER = "time,a,b\n"


def read(tmp_path, content, *, repair=False, columns=("a", "b")):
    path = tmp_path / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    findings = Findings("t.csv", repair=repair)
    return read_rows(path, columns, findings), findings


def test_row_numbers_count_the_header_and_blank_lines(tmp_path):
    rows, _ = read(tmp_path, HEADER + "t1,1,2\n\nt2,3,4\n\n")
    assert rows.numbers.tolist() == [2, 4]
    assert rows.values["b"].tolist() == [2, 4]


def test_text_in_numbers_is_named_with_its_row(tmp_path):
    with pytest.raises(DataError, match=r"t.csv: column 'a' has 1 text where numbers belong, the first 'n.n.' \(row 3\)"):
        read(tmp_path, HEADER + "t1,1,2\nt2,n.n.,4\n")


def test_text_in_numbers_is_unknown_under_repair(tmp_path):
    rows, findings = read(tmp_path, HEADER + 't1,"1,5",2\nt2,2,4\nt3,x,4\n', repair=True)
    assert np.isnan(rows.values["a"]).tolist() == [True, False, True]
    assert findings.repairs == ["t.csv: column 'a' has 2 texts where numbers belong, the first '1,5' (rows 2, 4): taken as unknown"]


def test_truth_values_are_no_numbers(tmp_path):
    with pytest.raises(DataError, match="the first 'True'"):
        read(tmp_path, HEADER + "t1,True,2\nt2,False,4\n")


@pytest.mark.parametrize("word", ["", " ", "nan", "NULL", "unknown", "Unavailable", "None"])
def test_words_for_no_value_are_unknown_without_repair(tmp_path, word):
    rows, _ = read(tmp_path, HEADER + f"t1,{word},2\nt2,1,4\n")
    assert np.isnan(rows.values["a"][0])
    assert rows.values["a"][1] == 1


def test_numbers_keep_their_last_digit(tmp_path):
    rows, _ = read(tmp_path, HEADER + "t1,0.30000000000000004,47.596666666666700\n")
    assert rows.values["a"][0] == 0.30000000000000004
    assert rows.values["b"][0] == 47.596666666666700


def test_line_ends_of_old_macs_are_fine(tmp_path):
    rows, _ = read(tmp_path, b"time,a,b\rt1,1,2\rt2,3,4\r")
    assert (rows.numbers.tolist(), rows.values["b"].tolist()) == ([2, 3], [2, 4])


def test_byte_order_mark_and_windows_line_ends_are_fine(tmp_path):
    rows, _ = read(tmp_path, b"\xef\xbb\xbftime,a,b\r\nt1,1,2\r\n")
    assert (rows.times.name, rows.values["b"].tolist()) == ("time", [2])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no columns"),
        (b"time;a;b\n1;2;3\n", "separated by ';'"),
        (b"time\ta\tb\n", r"separated by '\\t'"),
        (b"time,a,b\n", "no rows under the header"),
        (b"time,a,b\nt1,1,2\nt2,1,2,3\n", "not a CSV table .*line 3"),
        (b"time,a,b\nt1,1,5,2\nt2,1,5,2\n", "not a CSV table"),
        (b"time,a,b,a\nt1,1,2,3\n", "2 columns are called 'a'"),
        (b"time,a,\xb0C\nt1,1,2\n", "not UTF-8"),
        (b"\x1f\x8b\x08\x00broken", "damaged or cut short"),
        (gzip.compress(b"time,a,b\n", mtime=0)[:-8] + 8 * b"x", "damaged or cut short"),
        (b"time," + 200_000 * b"a", "names no columns"),
        (b"PAR1 and then nonsense", "not a readable Parquet file"),
    ],
)
def test_files_that_are_no_tables_say_so(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def test_gzip_cut_short_says_so(tmp_path):
    with pytest.raises(DataError, match="damaged or cut short"):
        read(tmp_path, gzip.compress(b"time,a,b\n" + b"t1,1,2\n" * 1000)[:-20])


def test_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: cannot be read \(No such file"):
        read_rows(tmp_path / "none.csv", ("a",), Findings("none.csv", repair=False))


def test_parquet_is_known_by_its_content(tmp_path):
    pd.DataFrame({"time": ["t1", "t2"], "b": [2, None], "a": [1, 3]}).to_parquet(tmp_path / "t.csv")
    rows = read_rows(tmp_path / "t.csv", ("a", "b"), Findings("t.csv", repair=False))
    assert rows.numbers.tolist() == [2, 3]
    assert rows.values["a"].tolist() == [1, 3]
    assert np.isnan(rows.values["b"][1])


def test_a_parquet_file_with_one_column_says_so(tmp_path):
    pd.DataFrame({"time": ["t1"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"1 column missing, the first 'a': it has a time column only \(correct 'column'"):
        read_rows(tmp_path / "t.parquet", ("a",), Findings("t", repair=False))


def test_empty_parquet_says_so(tmp_path):
    pd.DataFrame({"time": [], "a": [], "b": []}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataError, match="no rows"):
        read_rows(tmp_path / "t.parquet", ("a", "b"), Findings("t", repair=False))


def test_only_the_first_rows_are_listed():
    assert in_rows(np.array([7])) == "row 7"
    assert in_rows(np.arange(2, 9)) == "rows 2, 3, 4, 5, 6, …"
