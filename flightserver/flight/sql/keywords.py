"""The words of the SQL dialect: keywords, functions by family, conversions.

The functions are those of DataFusion 54 without aggregates and window functions, which SqlInfo has no place for; a test
compares them with the engine, so that a new engine's functions are noticed. `NESTED_FUNCTIONS` work on lists, maps
and structs; SqlInfo has no place for them either, they stand here so that the comparison is complete.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


KEYWORDS = _words(
    """
    ALL AND ANTI ANY AS ASC BETWEEN BOTH BY CASE CAST COLUMN CREATE CROSS CUBE CURRENT DELETE DESC DESCRIBE
    DISTINCT DROP ELSE END ESCAPE EXCEPT EXISTS EXPLAIN EXTRACT FALSE FETCH FILTER FIRST FOLLOWING FOR FROM FULL
    GROUP GROUPING HAVING IF ILIKE IN INNER INSERT INTERSECT INTERVAL INTO IS JOIN LAST LATERAL LEADING LEFT
    LIKE LIMIT NATURAL NOT NULL NULLS OFFSET ON OR ORDER OUTER OVER OVERLAY PARTITION POSITION PRECEDING PRIMARY
    QUALIFY RANGE RECURSIVE REPLACE RIGHT ROLLUP ROW ROWS SELECT SEMI SETS SHOW SIMILAR SOME SUBSTRING TABLE
    TABLESAMPLE THEN TO TRAILING TRIM TRUE TRY_CAST UNBOUNDED UNION UNNEST USING VALUES WHEN WHERE WINDOW WITH
    WITHIN
    """
)

NUMERIC_FUNCTIONS = _words(
    """
    abs acos acosh asin asinh atan atan2 atanh cbrt ceil cos cosh cot degrees exp factorial floor gcd isnan
    iszero lcm ln log log10 log2 nanvl pi pow power radians rand random round signum sin sinh sqrt tan tanh
    trunc
    """
)

STRING_FUNCTIONS = _words(
    """
    ascii bit_length btrim char_length character_length chr concat concat_ws contains decode digest encode
    ends_with find_in_set initcap instr left length levenshtein lower lpad ltrim md5 octet_length overlay
    position regexp_count regexp_instr regexp_like regexp_match regexp_replace repeat replace reverse right rpad
    rtrim sha224 sha256 sha384 sha512 split_part starts_with strpos substr substr_index substring
    substring_index to_hex translate trim upper
    """
)

SYSTEM_FUNCTIONS = _words(
    """
    arrow_cast arrow_field arrow_metadata arrow_try_cast arrow_typeof cast_to_type coalesce greatest ifnull
    least nullif nvl nvl2 try_cast_to_type uuid version with_metadata
    """
)

DATETIME_FUNCTIONS = _words(
    """
    current_date current_time current_timestamp date_bin date_format date_part date_trunc datepart datetrunc
    from_unixtime make_date make_time now to_char to_date to_local_time to_time to_timestamp to_timestamp_micros
    to_timestamp_millis to_timestamp_nanos to_timestamp_seconds to_unixtime today
    """
)

NESTED_FUNCTIONS = _words(
    """
    array_any_value array_append array_cat array_compact array_concat array_contains array_dims array_distance
    array_distinct array_element array_empty array_except array_extract array_has array_has_all array_has_any
    array_indexof array_intersect array_join array_length array_max array_min array_ndims array_normalize
    array_pop_back array_pop_front array_position array_positions array_prepend array_push_back array_push_front
    array_remove array_remove_all array_remove_n array_repeat array_replace array_replace_all array_replace_n
    array_resize array_reverse array_slice array_sort array_to_string array_union arrays_overlap arrays_zip
    cardinality cosine_distance dot_product element_at empty flatten generate_series get_field inner_product
    list_any_value list_append list_cat list_compact list_concat list_contains list_dims list_distance
    list_distinct list_element list_empty list_except list_extract list_has list_has_all list_has_any
    list_indexof list_intersect list_join list_length list_max list_ndims list_normalize list_pop_back
    list_pop_front list_position list_positions list_prepend list_push_back list_push_front list_remove
    list_remove_all list_remove_n list_repeat list_replace list_replace_all list_replace_n list_resize
    list_reverse list_slice list_sort list_to_string list_union list_zip make_array make_list map map_entries
    map_extract map_keys map_values named_struct range row string_to_array string_to_list struct union_extract
    union_tag
    """
)

_NUMBERS = ("BIGINT", "DECIMAL", "FLOAT", "INTEGER", "NUMERIC", "REAL", "SMALLINT", "TINYINT")
_TEXTS = ("CHAR", "LONGVARCHAR", "VARCHAR")
_BINARIES = ("BINARY", "LONGVARBINARY", "VARBINARY")
_FROM_WHOLE_NUMBER = (*_NUMBERS, *_TEXTS, *_BINARIES, "BIT", "TIMESTAMP")
_FROM_DECIMAL = (*_NUMBERS, *_TEXTS, "TIMESTAMP")
_FROM_FRACTION = (*_NUMBERS, *_TEXTS, "BIT", "TIMESTAMP")
_FROM_TEXT = (*_NUMBERS, *_TEXTS, *_BINARIES, "BIT", "DATE", "INTERVAL_DAY_TIME", "TIME", "TIMESTAMP")
_FROM_BINARY = (*_BINARIES, *_TEXTS)

CONVERSIONS: dict[str, tuple[str, ...]] = {
    "BIGINT": (*_FROM_WHOLE_NUMBER, "DATE", "TIME"),
    "BINARY": _FROM_BINARY,
    "BIT": (*_TEXTS, "BIGINT", "BIT", "FLOAT", "INTEGER", "REAL", "SMALLINT", "TINYINT"),
    "CHAR": _FROM_TEXT,
    "DATE": (*_TEXTS, "BIGINT", "DATE", "INTEGER", "TIMESTAMP"),
    "DECIMAL": _FROM_DECIMAL,
    "FLOAT": _FROM_FRACTION,
    "INTEGER": (*_FROM_WHOLE_NUMBER, "DATE"),
    "INTERVAL_DAY_TIME": (*_TEXTS, "INTERVAL_DAY_TIME"),
    "LONGVARBINARY": _FROM_BINARY,
    "LONGVARCHAR": _FROM_TEXT,
    "NUMERIC": _FROM_DECIMAL,
    "REAL": _FROM_FRACTION,
    "SMALLINT": _FROM_WHOLE_NUMBER,
    "TIME": (*_TEXTS, "BIGINT", "TIME"),
    "TIMESTAMP": (*_NUMBERS, *_TEXTS, "DATE", "TIME", "TIMESTAMP"),
    "TINYINT": _FROM_WHOLE_NUMBER,
    "VARBINARY": _FROM_BINARY,
    "VARCHAR": _FROM_TEXT,
}
"""From -> to, as names of the enumeration SqlSupportsConvert without their prefix: what CAST accepts."""
