"""Mail that is really sent: composing, SMTP, delivery states, and an inbox for development.

Built on the public names of Muskox. It knows messages and recipients, no users.
"""

from __future__ import annotations

__all__: list[str] = []
