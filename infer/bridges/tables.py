"""Tables as pandas DataFrames. pandas is imported when it is needed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def dataframe(rows: Mapping[str, Mapping[str, Any]]) -> "pandas.DataFrame":
    """A DataFrame of rows by name, in their order."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_dataframe needs pandas: pip install 'infer-jax[arviz]'.") from error
    return pandas.DataFrame.from_records(list(rows.values()), index=list(rows))
