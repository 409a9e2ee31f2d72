"""Where the JSON Schema of the stack file lies. Making it from the models takes 13 ms, so it is kept.

python -m devstack.config.schema_file      makes it again; a test says when that is due
"""

from pathlib import Path

SCHEMA = Path(__file__).with_name("stack.schema.json")

if __name__ == "__main__":
    import json

    from devstack.config.schema import json_schema

    SCHEMA.write_text(json.dumps(json_schema(), indent=2) + "\n")
