"""Keep the old address of engine/ttt/convert.py alive: `python -m longreel.engine.convert_ttt` goes on answering."""

from .ttt.convert import main

if __name__ == "__main__":
    main()
