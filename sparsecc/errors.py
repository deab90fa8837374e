"""Errors a user can cause. Anything else that goes wrong is a bug and raises an ordinary exception."""


class UserError(Exception):
    """One clear sentence: what is wrong, where, what was found, what is needed, what to do.

    The command line prints it as `error: ...` without a traceback and exits with `exit_code`:
    1 when the input cannot be compiled, 2 when the command itself is wrong, 3 when a check failed.
    """

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code
