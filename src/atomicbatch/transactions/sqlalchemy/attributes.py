"""What a handler may use of a driver's connection, which all calls of the batch share."""

from __future__ import annotations

HARMLESS = frozenset(
    """
    Warning Error InterfaceError DatabaseError DataError OperationalError IntegrityError
    InternalError ProgrammingError NotSupportedError
    await_ broken character_set_name charset closed dbapi deferrable encoding escape escape_string
    fileno get_backend_pid get_dsn_parameters get_parameter_status get_server_info
    get_transaction_status host_info info literal notices protocol_version read_only readonly
    server_status server_version status text_factory thread_id total_changes
    """.split()
)
"""What neither runs SQL nor changes anything; of all drivers."""
OF_ASYNC_DRIVERS = frozenset(
    """
    broken closed encoding get_server_pid get_server_version get_settings in_transaction info
    is_closed is_in_transaction total_changes
    """.split()
)
"""The same of async drivers' own connections."""
CHANGING = frozenset(
    """
    adapters add_log_listener add_notice_handler add_notify_handler create_aggregate
    create_collation create_function create_window_function enable_load_extension load_extension
    reload_schema_state reset_type_codec set_authorizer set_builtin_type_codec set_character_set
    set_charset set_client_encoding set_progress_handler set_trace_callback set_type_codec
    setconfig setlimit
    """.split()
)
"""What changes how the connection works for all who share it, and get it next."""
OF_CURSORS = frozenset({"row_factory", "cursor_factory"})
"""What is taken from the connection when a cursor is made."""
