"""README.txt of a stick: what a learner without internet does, as commands to copy."""

WITH_PACKAGES = """\
2. Install, once. The packages on this stick are for {machine}.

   Linux, macOS:
     python3 -m venv .venv
     .venv/bin/python -m pip install --no-index --find-links "STICK/packages" -r requirements.txt
   Windows:
     py -m venv .venv
     .venv\\Scripts\\python -m pip install --no-index --find-links "STICK\\packages" -r requirements.txt
"""

WITHOUT_PACKAGES = """\
2. The packages are not on this stick. Install them where there is internet, once, with the command of
   step 4: it installs what is missing, then opens the start page.
"""

PICTURES = """\
3. The pictures lie in course/data, where lesson 04 looks for them: nothing to do. They can stay on the stick,
   too, if you copy all of "course" but that. Then say where they are, in the terminal of step 4:

   Linux, macOS:
     export COURSE_DATA="STICK/course/data"
   Windows:
     set "COURSE_DATA=STICK\\course\\data"
"""

NO_PICTURES = """\
3. CIFAR-10 is not on this stick. Lesson 04 draws stand-in pictures, and says so on every plot. So that it
   does not look for the real ones on the internet first, in the terminal of step 4:

   Linux, macOS:
     export COURSE_DATA=standin
   Windows:
     set COURSE_DATA=standin
"""

START = """\
4. Open the start page; its table leads to the lessons. Leave the terminal open while you work.

   Linux, macOS:
     {linux} -m course_utils lab
   Windows:
     {windows} -m course_utils lab
"""

README = """\
PyTorch on GPUs, hands on: the course without internet
======================================================

STICK below is the folder of this file, such as /media/you/STICK or E:\\

1. Copy the folder "course" to your own disk, and open a terminal (on Windows: Command Prompt) in the copy.
   {python} must be there:  python3 --version    (Windows:  py --version)

{packages}
{pictures}
{start}
The slides: open slides/index.html in a browser.

No GPU is needed: without one the lessons use virtual GPUs. What the course is: course/README.md
"""


def text(machine: str, pictures: bool) -> str:
    """The whole text; `machine` is what the packages on the stick are for, empty where there are none."""
    packages = WITH_PACKAGES.format(machine=machine) if machine else WITHOUT_PACKAGES
    python = machine.partition(" on ")[0] or "Python 3.11 or newer"
    programs = (".venv/bin/python", ".venv\\Scripts\\python") if machine else ("python3", "py")
    start = START.format(linux=programs[0], windows=programs[1])
    pictures_text = PICTURES if pictures else NO_PICTURES
    return README.format(python=python, packages=packages, pictures=pictures_text, start=start)
