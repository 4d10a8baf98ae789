import sys

from learner.role import main

sys.exit(main())
