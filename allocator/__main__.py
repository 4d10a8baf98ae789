import sys

from allocator.role import main

sys.exit(main())
